# Ovenproof, images/hardening.yaml: login shells only; services and containers keep their own.
umask 027
if [ -z "${TMOUT:-}" ]; then
    TMOUT=900
    readonly TMOUT
    export TMOUT
fi
