#cloud-boothook
#!/bin/sh
# Ends the builder when its bake does not: if Packer is killed, nobody else will. Filled in by Packer (templatefile).
#
# The units lie in /run, which no image holds. A boothook runs at every boot, so a reboot during the bake sets the
# timer anew; it runs before the boot is far enough to finish a job, hence `--no-block` and no default dependencies.
set -eu
mkdir -p /run/systemd/system
cat >/run/systemd/system/ovenproof-dead-man.service <<'UNIT'
[Unit]
Description=End this abandoned builder
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/systemctl poweroff
UNIT
cat >/run/systemd/system/ovenproof-dead-man.timer <<'UNIT'
[Unit]
Description=End this builder if its bake does not
DefaultDependencies=no
[Timer]
OnActiveSec=${minutes}min
UNIT
systemctl daemon-reload
systemctl start --no-block ovenproof-dead-man.timer
