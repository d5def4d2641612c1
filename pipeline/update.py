"""What is newer than what is pinned: in, the pins and the places that know of releases; out, a line for each, and on
request the changed pins.

What cannot be looked up is said and never guessed: AWS publishes no list of the GuardDuty agent's releases. The base
image is no pin; each bake takes the newest, and `./run plan`, which ends an update, says where one appeared.
"""

import difflib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import MachineError
from pipeline.paths import CHECKOUT
from pipeline.process import run
from pipeline.tools import GO_SETTINGS_KEPT, MODULES, pinned_versions

REQUIREMENTS: Final = "requirements.in"
TOOLCHAIN: Final = "requirements-go.in"
LISTS: Final = {"package": REQUIREMENTS, "toolchain": TOOLCHAIN}
"""The list of packages that a kind of pin stands in; beside each, with its hashes, what it was resolved to."""

AGENT_PAGE: Final = 'GuardDuty user guide, "Security agent release history"'
COMPILE: Final = (
    *("pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"),
    *("--no-emit-index-url", "--no-emit-find-links"),
)
_REMEDY: Final = "check the network (HTTPS_PROXY, GOPROXY, PIP_INDEX_URL count) and run the command again"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Something pinned. `newest` is empty when it is the newest, or when `unknown` says why nobody can tell."""

    kind: str
    name: str
    now: str
    newest: str = ""
    unknown: str = ""

    def __str__(self) -> str:
        if self.unknown:
            return f"{self.kind} {self.name} {self.now}: not looked up: {self.unknown}"
        return (
            f"{self.kind} {self.name}: {self.now} -> {self.newest}"
            if self.newest
            else f"{self.kind} {self.name} {self.now} is the newest"
        )


def go_pins(listed: str, names: Sequence[str]) -> tuple[Pin, ...]:
    """From what `go list -m -u -json` prints (JSON objects one after the other) to pins of those modules."""
    decoder, position, found = json.JSONDecoder(), 0, []
    text = listed.strip()
    while position < len(text):
        module, position = decoder.raw_decode(text, position)
        while position < len(text) and text[position].isspace():
            position += 1
        if module["Path"] in names:
            newest = module.get("Update", {}).get("Version", "")
            found.append(
                Pin(
                    kind="program",
                    name=module["Path"].rpartition("/")[2],
                    now=module["Version"].removeprefix("v"),
                    newest=newest.removeprefix("v"),
                )
            )
    return tuple(found)


def python_pins(outdated: str, wanted: Sequence[str], installed: Mapping[str, str]) -> tuple[Pin, ...]:
    """From what `pip list --outdated --format json` prints to pins of what `requirements.in` names itself."""
    newer = {_normal(one["name"]): one["latest_version"] for one in json.loads(outdated)}
    return tuple(
        Pin(kind="package", name=name, now=installed[_normal(name)], newest=newer.get(_normal(name), ""))
        for name in wanted
        if _normal(name) in installed
    )


def wanted_packages(requirements: str) -> tuple[str, ...]:
    """The names in `requirements.in`, without extras and versions."""
    lines = (line.partition("#")[0].strip() for line in requirements.splitlines())
    return tuple(re.split(r"[\[=<>~! ;]", line)[0] for line in lines if line)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def look_up(agent_version: str, go: Path, checkout: Path = CHECKOUT) -> tuple[Pin, ...]:
    """Every pin with the newest release of it. A place that does not answer makes its pins unknown."""
    pins: list[Pin] = []
    modules = checkout / MODULES.name
    pinned = pinned_versions(modules / "go.mod")
    for module in _tool_modules(modules):
        try:
            asked: list[str | Path] = [go, "list", "-m", "-u", "-json", module]
            pins += go_pins(run(asked, cwd=modules, env=_go_settings(), timeout_seconds=120), [module])
        except MachineError as error:
            name = module.rpartition("/")[2]
            pins.append(Pin(kind="program", name=name, now=pinned[name], unknown=_last(error)))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "list", "--format", "json"]
    wanted = wanted_packages((checkout / REQUIREMENTS).read_text(encoding="utf-8"))
    try:
        installed = {_normal(one["name"]): one["version"] for one in json.loads(run(pip, remedy=_REMEDY))}
        pins += python_pins(run([*pip, "--outdated"], timeout_seconds=300, remedy=_REMEDY), wanted, installed)
    except MachineError as error:
        pins.append(Pin(kind="package", name="(all)", now="", unknown=_last(error)))
    pins += _toolchain_pins((checkout / TOOLCHAIN).read_text(encoding="utf-8"))
    pins.append(
        Pin(
            kind="agent",
            name="amazon-guardduty-agent",
            now=agent_version,
            unknown=f"AWS publishes no list to ask; see {AGENT_PAGE}, then set agent.version in images/catalog.yaml",
        )
    )
    return tuple(pins)


def _toolchain_pins(requirements: str) -> Iterator[Pin]:
    """The pins of a list whose packages are not installed here, so that the resolver has to be asked."""
    for name, now in re.findall(r"(?m)^([\w.-]+)==(\S+)$", requirements):
        try:
            resolved = run([_uv(), *COMPILE, "--no-deps", "-"], stdin=name, timeout_seconds=120, remedy=_REMEDY)
        except MachineError as error:
            yield Pin(kind="toolchain", name=name, now=now, unknown=_last(error))
            continue
        [newest] = re.findall(rf"(?m)^{re.escape(name)}==([^\s;]+)", resolved)
        yield Pin(kind="toolchain", name=name, now=now, newest="" if newest == now else newest)


def _uv() -> Path:
    return Path(sys.executable).with_name("uv")


def _locked(requirements: str) -> str:
    return requirements.removesuffix(".in") + ".txt"


def _last(error: MachineError) -> str:
    lines = [line.strip() for line in error.found.splitlines() if not line.startswith("exit code")]
    return " ".join(lines) or error.what


def _tool_modules(folder: Path = MODULES) -> tuple[str, ...]:
    """The modules of the programs that `tools/go.mod` is there for."""
    block = re.search(r"^tool \(\n(.*?)^\)", (folder / "go.mod").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    paths = block[1].split() if block else []
    return tuple("/".join(path.split("/")[:3]) for path in paths)


def _go_settings() -> dict[str, str]:
    kept = (*GO_SETTINGS_KEPT, "HOME", "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "GOFLAGS": "-mod=mod",
        "GOTOOLCHAIN": "local",
    }


def write(pins: Sequence[Pin], go: Path, checkout: Path = CHECKOUT) -> tuple[str, ...]:
    """Change the pins that have a newer release; what changed, line by line, and what a person has to look at."""
    modules = checkout / MODULES.name
    lists = [checkout / name for one in LISTS.values() for name in (one, _locked(one))]
    files = (modules / "go.mod", *lists)
    before = {file: file.read_text(encoding="utf-8") for file in files}
    notes = []
    if programs := [pin for pin in pins if pin.kind == "program" and pin.newest]:
        names = {path.rpartition("/")[2]: path for path in _tool_modules(modules)}
        for pin in programs:
            run([go, "get", f"{names[pin.name]}@v{pin.newest}"], cwd=modules, env=_go_settings(), remedy=_REMEDY)
        run([go, "mod", "tidy"], cwd=modules, env=_go_settings(), remedy=_REMEDY)
        notes.append("tools/go.mod was changed: see whether its replace lines are still those of Packer's own go.mod")
    for kind, requirements in LISTS.items():
        if packages := [pin for pin in pins if pin.kind == kind and pin.newest]:
            text = raised(before[checkout / requirements], packages)
            (checkout / requirements).write_text(text, encoding="utf-8")
            upgrades = [word for pin in packages for word in ("--upgrade-package", pin.name)]
            run([_uv(), *COMPILE, *upgrades, requirements, "-o", _locked(requirements)], cwd=checkout, remedy=_REMEDY)
    changed = [
        f"{file.relative_to(checkout)}\n" + "\n".join(lines)
        for file in files
        if (lines := difference(before[file], file.read_text(encoding="utf-8")))
    ]
    return (*changed, *notes)


def difference(before: str, after: str) -> tuple[str, ...]:
    """The lines that went and came, without digests and the comments of a resolver: those follow the versions."""
    lines = difflib.unified_diff(_telling(before), _telling(after), lineterm="", n=0)
    return tuple(f"  {line}" for line in lines if line.startswith(("-", "+")) and not line.startswith(("---", "+++")))


def _telling(text: str) -> list[str]:
    lines = (line.strip().removesuffix(" \\") for line in text.splitlines())
    return [line for line in lines if line and not line.startswith(("--hash=", "# via", "#   "))]


def raised(requirements: str, pins: Sequence[Pin]) -> str:
    """A list of requirements with the versions it pins itself raised to the newest."""
    for pin in pins:
        pattern = rf"(?m)^({re.escape(pin.name)}(\[[^\]]*\])?==){re.escape(pin.now)}$"
        requirements = re.sub(pattern, rf"\g<1>{pin.newest}", requirements)
    return requirements


def as_text(pins: Sequence[Pin]) -> str:
    """What is newer first, then what is not known, then a count of the rest."""
    newer = [str(pin) for pin in pins if pin.newest]
    unknown = [str(pin) for pin in pins if pin.unknown]
    rest = len(pins) - len(newer) - len(unknown)
    return "\n".join([*newer, *unknown, f"{rest} others are the newest"])
