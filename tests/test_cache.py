"""The cache: made once, complete or absent, whoever asks and whatever interrupts."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.cache import Cache, digest_tree
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
