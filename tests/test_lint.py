"""The linters as tests, and what must never be committed."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.paths import CHECKOUT

PROGRAMS = Path(sys.executable).parent
LOCKS = sorted([*CHECKOUT.glob("requirements*.txt"), *CHECKOUT.glob("**/go.sum")])


def files() -> Iterator[Path]:
    """Every file of the checkout that git would take, where its folders are not hidden ones (`.ci` is ours)."""
    answer = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    return (CHECKOUT / name for name in answer.stdout.split("\0") if name and (CHECKOUT / name).is_file())


def text_of(file: Path) -> str:
    return file.read_bytes().decode(errors="replace")


def shell_scripts() -> list[str]:
    """By what they say of themselves: a script on an image has no suffix."""
    return [str(file) for file in files() if re.match(r"#!\S*(/| )(ba)?sh\b", text_of(file)[:40])]


def templates() -> list[str]:
    return [
        str(file)
        for file in files()
        if file.suffix in (".yaml", ".yml") and "AWSTemplateFormatVersion:" in text_of(file)
    ]


def assert_quiet(*argv: str | Path) -> None:
    done = subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"\n{done.stdout}{done.stderr}"


def test_ruff_finds_nothing() -> None:
    assert_quiet(PROGRAMS / "ruff", "check", ".")


def test_everything_is_formatted() -> None:
    assert_quiet(PROGRAMS / "ruff", "format", "--check", "--diff", ".")


def test_mypy_finds_nothing() -> None:
    assert_quiet(PROGRAMS / "mypy")


def test_shellcheck_finds_nothing() -> None:
    scripts = shell_scripts()

    assert str(CHECKOUT / "run") in scripts
    assert_quiet(PROGRAMS / "shellcheck", "--external-sources", *scripts)


def test_cfn_lint_finds_nothing() -> None:
    if found := templates():
        assert_quiet(PROGRAMS / "cfn-lint", *found)


@pytest.mark.parametrize("script", shell_scripts())
def test_a_script_can_be_started(script: str) -> None:
    assert Path(script).stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(CHECKOUT)))
def test_a_lock_names_no_host(lock: Path) -> None:
    assert re.findall(r"\S*(?:https?:|file:|--find-links|--index-url|--extra-index-url)\S*", text_of(lock)) == []


@pytest.mark.parametrize("lock", sorted(CHECKOUT.glob("requirements*.txt")), ids=lambda lock: lock.name)
def test_every_python_package_is_pinned_and_hashed(lock: Path) -> None:
    entries = re.split(r"\n(?=\S)", re.sub(r"^ *#.*\n", "", text_of(lock), flags=re.MULTILINE).strip())

    assert [
        entry for entry in entries if not re.match(r"[\w.-]+==\S+ .*\\\n    --hash=sha256:[0-9a-f]{64}", entry)
    ] == []


def test_nothing_is_left_to_do_and_no_path_of_this_machine_is_named() -> None:
    unfinished = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME)\b")
    found = [
        f"{file.relative_to(CHECKOUT)}:{number}: {line.strip()[:100]}"
        for file in files()
        for number, line in enumerate(text_of(file).splitlines(), 1)
        if unfinished.search(line) or f"{CHECKOUT}/" in line
    ]

    assert found == []
