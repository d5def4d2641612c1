"""The `run` script, with Python, pip and apt played by a small script, so that each thing that can lack is cheap."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.paths import CHECKOUT

UNIX = (
    *("awk", "basename", "bash", "cat", "chmod", "cp", "cut", "date", "df", "dirname", "env"),
    *("grep", "id", "mkdir", "rm", "sleep", "tail", "touch", "uname"),
)

# Plays python3 and, copied into the environment, its python: pip does what PIP_DOES says, invoke prints its arguments.
PYTHON = f"""\
#!/bin/bash
set -eu
case "$*" in
    *hashlib*) printf '%s\\n' "${{SAYS:-0123456789ab 3.11 $0}}"; [[ -z ${{TOO_OLD:-}} ]] ;;
    *fcntl*) exec {sys.executable} "$@" ;;
    *ensurepip*) [[ ! -e $PLAY/no-venv ]] ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    "-m pip "*) echo "$*" >>"$PLAY/pip-calls"; eval "${{PIP_DOES:-true}}" ;;
    "-m pipeline.runbook.lint"*) echo "$PYTHONPATH"; printf '<%s>' "$@" ;;
    */bin/invoke*) echo "$OVENPROOF_CACHE"; printf '<%s>' "$@" ;;
    *) echo "unexpected: $*"; exit 99 ;;
esac
"""


class Play:
    """A checkout with nothing but `run`, and a PATH with nothing but what is put there."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "check out"
        self.checkout.mkdir()
        shutil.copy2(CHECKOUT / "run", self.checkout)
        (self.checkout / "requirements.txt").write_text("rich==1\n")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in UNIX:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.cache = folder / "cache"
        self.venv = self.cache / "venv-0123456789ab"
        self.folder = folder

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *args: str, **env: str | None) -> subprocess.Popen[str]:
        known: Mapping[str, str | None] = {
            "PATH": str(self.bin),
            "HOME": str(self.folder),
            "PLAY": str(self.folder),
            "OVENPROOF_CACHE": str(self.cache),
        }
        return subprocess.Popen(
            [self.checkout / "run", *args],
            cwd=self.folder,
            env={key: value for key, value in {**known, **env}.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *args: str, **env: str | None) -> tuple[int, str, str]:
        process = self.start(*args, **env)
        stdout, stderr = process.communicate(timeout=60)
        return process.returncode, stdout, stderr

    def pip_calls(self) -> int:
        calls = self.folder / "pip-calls"
        return len(calls.read_text().splitlines()) if calls.exists() else 0


@pytest.fixture
def play(tmp_path: Path) -> Play:
    play = Play(tmp_path)
    play.program("python3", PYTHON)
    return play


def message(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def handed_over(play: Play, *args: str) -> str:
    words = [f"{play.venv}/bin/invoke", "--search-root", str(play.checkout), *args]
    return f"{play.cache}\n" + "".join(f"<{word}>" for word in words)


def test_without_arguments_the_tasks_are_listed(play: Play) -> None:
    code, stdout, _ = play.run()

    assert (code, stdout) == (0, handed_over(play, "--list"))


def test_arguments_go_to_invoke_as_they_are(play: Play) -> None:
    code, stdout, _ = play.run("build-image", "--only", "a b", "")

    assert (code, stdout) == (0, handed_over(play, "build-image", "--only", "a b", ""))


def test_lint_takes_any_number_of_files(play: Play) -> None:
    code, stdout, stderr = play.run("lint", "one.yaml", "two files.json", "--strict")
    words = ["-m", "pipeline.runbook.lint", "one.yaml", "two files.json", "--strict"]
    assert (code, stdout) == (0, f"{play.checkout}\n" + "".join(f"<{word}>" for word in words)), stderr


def test_the_environment_is_made_once_from_hashes(play: Play) -> None:
    assert play.run()[0] == 0
    code, _, stderr = play.run()

    assert (code, stderr) == (0, "")
    assert play.pip_calls() == 1
    assert (
        f"--only-binary :all: --require-hashes -r {play.checkout}/requirements.txt"
        in (play.folder / "pip-calls").read_text()
    )


def test_the_first_start_says_what_takes_time(play: Play) -> None:
    _, _, stderr = play.run(PIP_DOES="echo Collecting rich")

    first, last = stderr.splitlines()
    assert first == "making the Python environment (once for each requirements.txt) ... usually 30 to 60 s"
    assert last.startswith("making the Python environment: done in ")


@pytest.mark.parametrize(
    ("env", "cache"),
    [
        ({"OVENPROOF_CACHE": "relative"}, "relative"),
        ({"OVENPROOF_CACHE": "", "XDG_CACHE_HOME": "{folder}/xdg"}, "xdg/ovenproof"),
        ({"OVENPROOF_CACHE": ""}, ".cache/ovenproof"),
    ],
)
def test_the_cache_folder_follows_one_rule(env: dict[str, str], cache: str, play: Play) -> None:
    code, stdout, _ = play.run(**{key: value.format(folder=play.folder) for key, value in env.items()})

    assert (code, stdout.splitlines()[0]) == (0, str(play.folder / cache))


@pytest.mark.parametrize("home", [None, ""], ids=["unset", "empty"])
def test_no_home(play: Play, home: str | None) -> None:
    assert play.run(HOME=home, OVENPROOF_CACHE=None) == (
        4,
        "",
        message("""
            there is no place for the cache folder
              expected: OVENPROOF_CACHE, XDG_CACHE_HOME or HOME to name a folder
              found:    none of them set
              do:       set OVENPROOF_CACHE to a folder of yours and start again
            """),
    )
    assert play.run(HOME=home)[0] == 0, "not needed where the cache is named"


def test_no_python(play: Play) -> None:
    (play.bin / "python3").unlink()

    assert play.run() == (
        4,
        "",
        message("""
            Ovenproof runs on Python, and there is none here that is new enough
              expected: python3, python3.13, python3.12 or python3.11 on PATH, version 3.11 or newer
              found:    none of them
              do:       install Python 3.11 or newer (on Debian 12: apt-get install python3) and start again
            """),
    )


def test_a_python_that_is_too_old(play: Play) -> None:
    code, _, stderr = play.run(TOO_OLD="1", SAYS="3.9")

    assert code == 4
    assert "  found:    python3 (3.9)\n" in stderr


def test_a_newer_python_beside_an_old_one_is_taken(play: Play) -> None:
    play.program("python3", "#!/bin/bash\necho 3.9\nexit 1\n")
    play.program("python3.12", PYTHON)

    assert play.run()[0] == 0
    assert (play.venv / "bin" / "python").read_text() == PYTHON


def test_no_space(play: Play) -> None:
    play.program("df", "#!/bin/bash\nprintf 'head\\n/dev/x 9 9 102400 99%% /\\n'\n")

    assert play.run() == (
        4,
        "",
        message(f"""
            not enough space for the Python environment
              expected: 800 MB free
              found:    100 MB free
              where:    {play.cache}
              do:       free some space there, or set OVENPROOF_CACHE to a folder on a larger disk
            """),
    )


def test_a_cache_folder_that_cannot_be_made(play: Play) -> None:
    code, _, stderr = play.run(OVENPROOF_CACHE="/dev/null/cache")

    assert code == 4
    assert stderr.splitlines()[0] == "the cache folder cannot be made"
    assert stderr.splitlines()[-1] == "  do:       set OVENPROOF_CACHE to a folder of yours"


@pytest.mark.parametrize(
    ("last_line", "remedy"),
    [
        (
            "ERROR: No matching distribution found for rich==1",
            "check the network (HTTPS_PROXY, PIP_INDEX_URL and the like count) and start again",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "do not go on: the download is not what was pinned; look at who changed it, index or mirror",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "free some space there, or set OVENPROOF_CACHE to a folder on a larger disk, and start again",
        ),
    ],
)
def test_pip_fails(last_line: str, remedy: str, play: Play) -> None:
    code, stdout, stderr = play.run(PIP_DOES=f"echo Collecting rich; echo '{last_line}' >&2; exit 1")

    assert (code, stdout) == (4, "")
    assert stderr.partition("\n")[2] == message(f"""
        the pinned Python packages could not be installed
          expected: every package of requirements.txt
          found:    {last_line}
          where:    {play.venv}.log
          do:       {remedy}
        """)


def test_a_failed_start_is_made_good_by_the_next(play: Play) -> None:
    assert play.run(PIP_DOES='touch "${0%/bin/python}/half"; exit 1')[0] == 4
    assert (play.venv / "half").exists()

    assert play.run()[0] == 0
    assert not (play.venv / "half").exists()
    assert play.pip_calls() == 2


def test_ctrl_c_while_packages_are_installed(play: Play) -> None:
    process = play.start(PIP_DOES='>"$PLAY/begun"; exec sleep 60')  # no child that a shell would rather wait for
    wait_for(play.folder / "begun")
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=30)

    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "interrupted; the next start makes the Python environment again"
    assert play.run()[0] == 0


def test_two_starts_at_once(play: Play) -> None:
    hold = 'touch "$PLAY/begun"; while [[ ! -e $PLAY/go-on ]]; do sleep 0.05; done'
    first = play.start("one", PIP_DOES=hold)
    wait_for(play.folder / "begun")
    second = play.start("two")
    assert second.stderr is not None
    said = second.stderr.readline()
    (play.folder / "go-on").touch()

    assert first.communicate(timeout=30)[0] == handed_over(play, "one")
    assert second.communicate(timeout=30)[0] == handed_over(play, "two")
    assert said == "the Python environment is being made by another start of Ovenproof; waiting for it\n"
    assert play.pip_calls() == 1


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)


APT = """\
#!/bin/bash
echo "$*" >>"$PLAY/apt-calls"
case "$*" in *install*) rm "$PLAY/no-venv" ;; esac
"""


def test_debian_without_its_venv_package_gets_it(play: Play) -> None:
    (play.folder / "no-venv").touch()
    play.program("apt-get", APT)
    play.program("sudo", '#!/bin/bash\nexec "$@"\n')

    code, _, stderr = play.run()

    assert code == 0
    assert stderr.splitlines()[0] == (
        f"installing the apt package python3.11-venv: {play.bin}/python3 has no venv and ensurepip without it"
    )
    assert (play.folder / "apt-calls").read_text().splitlines() == [
        "update -qq",
        "-o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends python3.11-venv",
    ]


def test_apt_fails(play: Play) -> None:
    (play.folder / "no-venv").touch()
    play.program("apt-get", "#!/bin/bash\necho 'E: no route to host' >&2\nexit 100\n")
    play.program("sudo", '#!/bin/bash\nexec "$@"\n')

    code, _, stderr = play.run()

    assert code == 4
    assert stderr.partition("\n")[2] == message("""
        E: no route to host
        apt-get could not install python3.11-venv
          found:    the lines above
          do:       as root: apt-get install python3.11-venv, or use another Python that has venv; start again
        """)


def test_no_venv_and_no_apt(play: Play) -> None:
    (play.folder / "no-venv").touch()

    assert play.run() == (
        4,
        "",
        message(f"""
            this Python cannot make environments, and this user cannot install what it lacks
              expected: the modules venv and ensurepip, or apt-get with root or sudo to install python3.11-venv
              found:    neither
              where:    {play.bin}/python3
              do:       as root: apt-get install python3.11-venv, or use another Python that has venv; start again
            """),
    )


def test_an_unsupported_platform(play: Play) -> None:
    play.program("uname", "#!/bin/bash\necho FreeBSD\n")

    assert play.run() == (
        4,
        "",
        message("""
            this platform is not supported
              expected: Linux or macOS
              found:    FreeBSD
              do:       use one of them, or a container
            """),
    )
