"""A file of ours is the old one or the new one, whatever happens in between."""

from pathlib import Path

import pytest

from pipeline.whole_file import write_whole


def test_folders_are_made_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.json"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "one")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "x" * 100_000 + "\ud800")  # half a surrogate pair is no UTF-8
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
