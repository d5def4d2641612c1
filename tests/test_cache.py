"""The cache: made once, complete or absent, whoever asks and whatever interrupts."""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline.cache import KEPT_UNUSED, Cache, digest_tree
from pipeline.paths import CHECKOUT


def put(text: str, file: Path, mode: int = 0o644) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def make_whole(part: Path) -> None:
    put("whole", part / "file")


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(part: Path) -> None:
        made.append(part)
        put("hello", part / "sub" / "file")

    first = Cache(tmp_path / "cache").entry("thing", {"version": "1"}, make)
    second = Cache(tmp_path / "cache").entry("thing", {"version": "1"}, make)

    assert first == second == tmp_path / "cache" / first.name
    assert first.name.startswith("thing-")
    assert len(first.name) == len("thing-") + 12
    assert (first / "sub" / "file").read_text() == "hello"
    assert len(made) == 1
    assert not made[0].exists()


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("thing", {"version": "2"}),
        ("thing", {"version": "1", "arch": "arm64"}),
        ("thing", {"release": "1"}),
        ("other", {"version": "1"}),
    ],
)
def test_another_name_or_input_is_another_entry(name: str, inputs: dict[str, str], tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    assert cache.path(name, inputs) != cache.path("thing", {"version": "1"})


def test_the_order_of_inputs_does_not_matter(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    assert cache.path("thing", {"a": "1", "b": "2"}) == cache.path("thing", {"b": "2", "a": "1"})


@pytest.mark.parametrize("error", [RuntimeError("compiler says no"), KeyboardInterrupt()])
def test_a_failed_make_raises_and_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def make(part: Path) -> None:
        put("half", part / "file")
        raise error

    with pytest.raises(type(error)) as caught:
        cache.entry("thing", {}, make)

    assert caught.value is error
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert cache.entry("thing", {}, make_whole).is_dir()


def test_what_a_kill_left_behind_is_made_again(tmp_path: Path) -> None:
    killed = """
import os, signal, sys
from pathlib import Path
from pipeline.cache import Cache
def make(part):
    (part / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Cache(Path(sys.argv[1])).entry("thing", {}, make)
"""
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], cwd=CHECKOUT, check=False)
    assert [path.name for path in tmp_path.glob(".thing-*.part/*")] == ["half"]

    entry = Cache(tmp_path).entry("thing", {}, make_whole)

    assert [path.name for path in entry.iterdir()] == ["file"]
    assert list(tmp_path.glob(".thing-*.part")) == []


def test_a_second_start_says_that_it_waits_and_gets_the_same_entry(tmp_path: Path) -> None:
    said: list[str] = []
    making, waiting = threading.Event(), threading.Event()
    entries: list[Path] = []

    def make(part: Path) -> None:
        making.set()
        assert waiting.wait(10)
        put("whole", part / "file")

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def not_again(_: Path) -> None:
        raise AssertionError("made twice")

    first = threading.Thread(target=lambda: entries.append(Cache(tmp_path).entry("thing", {}, make)))
    first.start()
    assert making.wait(10)
    entries.append(Cache(tmp_path, say).entry("thing", {}, not_again))
    first.join()

    assert said == ["thing is being made by another start of Ovenproof; waiting for it"]
    assert entries[0] == entries[1]
    assert (entries[0] / "file").read_text() == "whole"


def test_a_tree_has_the_same_digest_wherever_it_lies(tmp_path: Path) -> None:
    for clone, mode in (("a", 0o644), ("b", 0o600)):
        put("one", tmp_path / clone / "images" / "one", mode)
        put("two", tmp_path / clone / "images" / "deep" / "two", mode | 0o100)
    (tmp_path / "b" / "images" / "empty").mkdir()
    put("bytes", tmp_path / "b" / "images" / "__pycache__" / "one.pyc")

    assert digest_tree([tmp_path / "a" / "images"]) == digest_tree([tmp_path / "b" / "images"])


def test_the_order_of_paths_does_not_matter(tmp_path: Path) -> None:
    one, two = put("one", tmp_path / "one"), put("two", tmp_path / "two")

    assert digest_tree([one, two]) == digest_tree([two, one])


def test_every_kind_of_change_changes_the_digest(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    file = put("one", tree / "one")
    link = tree / "link"
    link.symlink_to("one")
    seen = [digest_tree([tree])]

    file.write_text("two")
    seen.append(digest_tree([tree]))
    file.chmod(0o755)
    seen.append(digest_tree([tree]))
    file.rename(tree / "renamed")
    seen.append(digest_tree([tree]))
    link.unlink()
    link.symlink_to("renamed")
    seen.append(digest_tree([tree]))
    link.unlink()
    seen.append(digest_tree([tree]))

    assert len(set(seen)) == len(seen)


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        digest_tree([tmp_path / "absent"])


# -- what nobody asks for any more -------------------------------------------------------------------------------------

NOW = datetime(2100, 1, 1, 12, 0, tzinfo=UTC)  # later than any file that a test makes
LATER = NOW + KEPT_UNUSED


def made(cache: Cache, version: str, used: datetime, name: str = "thing") -> Path:
    entry = cache.entry(name, {"version": version}, make_whole)
    os.utime(entry, (used.timestamp(), used.timestamp()))
    return entry


def test_what_was_replaced_and_went_unused_is_removed_and_told(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old = made(cache, "1", NOW)
    new = made(cache, "2", NOW + timedelta(hours=1))
    put("x" * 10_000, old / "more")

    removed = cache.prune([], LATER + timedelta(seconds=1))

    assert [name for name, _ in removed] == [old.name]
    assert 10_000 <= removed[0][1] < 100_000
    assert (old.exists(), new.exists()) == (False, True)


@pytest.mark.parametrize("now", [LATER, NOW])
def test_what_was_used_of_late_stays_although_it_was_replaced(tmp_path: Path, now: datetime) -> None:
    cache = Cache(tmp_path)
    made(cache, "1", NOW)
    made(cache, "2", NOW + timedelta(hours=1))

    assert cache.prune([], now) == []


def test_the_newest_of_each_name_stays_however_old(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made(cache, "1", NOW)
    made(cache, "1", NOW, name="thing-of-another-name")

    assert cache.prune([], LATER + timedelta(days=1000)) == []


def test_asking_for_an_entry_is_using_it(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    made(cache, "1", datetime.now(UTC) - timedelta(days=1000))
    made(cache, "2", datetime.now(UTC) - timedelta(days=999))

    cache.entry("thing", {"version": "1"}, make_whole)

    assert cache.prune([], datetime.now(UTC)) == [(cache.path("thing", {"version": "2"}).name, 4096)]


@pytest.mark.parametrize("inside", ["file", "sub/disk.qcow2", "."])
def test_what_is_in_use_stays_for_ever(tmp_path: Path, inside: str) -> None:
    cache = Cache(tmp_path / "cache")
    old = made(cache, "1", NOW)
    made(cache, "2", NOW + timedelta(hours=1))
    (tmp_path / "link").symlink_to(tmp_path / "cache")

    assert cache.prune([tmp_path / "link" / old.name / inside], LATER + timedelta(days=1000)) == []


def test_what_somebody_holds_the_lock_of_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old = made(cache, "1", NOW)
    made(cache, "2", NOW + timedelta(hours=1))
    half = tmp_path / ".thing-0123456789ab.part"
    half.mkdir()

    with FileLock(tmp_path / f".{old.name}.lock"), FileLock(tmp_path / ".thing-0123456789ab.lock"):
        assert cache.prune([], LATER + timedelta(days=1)) == []

    assert (old.exists(), half.exists()) == (True, True)


def test_what_a_kill_left_half_made_is_removed(tmp_path: Path) -> None:
    half = tmp_path / ".thing-0123456789ab.part"
    put("x", half / "file")

    assert Cache(tmp_path).prune([], NOW) == [(half.name, 4096)]
    assert not half.exists()


@pytest.mark.parametrize("name", ["venv-0123456789ab", "downloads", "go-build", "thing-0123", "thing-0123456789ag"])
def test_what_others_keep_in_the_same_folder_stays(tmp_path: Path, name: str) -> None:
    cache = Cache(tmp_path)
    put("x", tmp_path / name / "file")
    os.utime(tmp_path / name, (0, 0))
    for newer in ("venv-1123456789ab", "thing-1123456789ab"):
        (tmp_path / newer).mkdir()

    assert cache.prune([], datetime.now(UTC)) == []


def test_an_entry_that_was_removed_is_made_again_when_asked_for(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    old = made(cache, "1", NOW)
    made(cache, "2", NOW + timedelta(hours=1))
    cache.prune([], LATER + timedelta(days=1))

    assert cache.entry("thing", {"version": "1"}, make_whole) == old
    assert (old / "file").read_text() == "whole"
