"""What guests are served, over real sockets."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.rehearsal.wire import HangUp, Reply, Request, UnixServer, static_files


class OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("guest", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


@pytest.fixture
def served(tmp_path: Path, runtime: Path) -> Iterator[tuple[OverSocket, Path]]:
    """A connection to a server of one folder under the name `repo`, and that folder."""
    folder = tmp_path / "repo"
    folder.mkdir()
    server = UnixServer(runtime / "s", static_files(lambda: {"repo": folder}))
    yield OverSocket(runtime / "s"), folder
    server.close()


def test_a_file_and_another_on_the_same_connection(served: tuple[OverSocket, Path]) -> None:
    connection, folder = served
    (folder / "sub").mkdir()
    (folder / "sub" / "a b.rpm").write_bytes(b"bytes")
    for _ in range(2):
        connection.request("GET", "/repo/sub/a%20b.rpm")
        assert connection.getresponse().read() == b"bytes"


OUTSIDE = [
    "/repo/../secret",
    "/repo/%2e%2e/secret",
    "/repo/link",
    "/repo/",
    "/repo",
    "/",
    "/other/secret",
    "/repo//etc/passwd",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_the_folder(served: tuple[OverSocket, Path], path: str) -> None:
    connection, folder = served
    (folder.parent / "secret").write_text("secret", encoding="utf-8")
    (folder / "link").symlink_to(folder.parent / "secret")
    connection.request("GET", path)
    assert connection.getresponse().status == 404


def test_read_only(served: tuple[OverSocket, Path]) -> None:
    connection, folder = served
    connection.request("PUT", "/repo/new", body=b"x")
    assert connection.getresponse().status == 405
    assert list(folder.iterdir()) == []


def test_hanging_up_sends_nothing(runtime: Path) -> None:
    def nobody(_: Request) -> Reply:
        raise HangUp

    server = UnixServer(runtime / "s", nobody)
    connection = OverSocket(runtime / "s")
    connection.request("GET", "/")
    with pytest.raises(http.client.RemoteDisconnected):
        connection.getresponse()
    server.close()


@pytest.mark.usefixtures("served")
def test_a_socket_is_its_owner_s(runtime: Path) -> None:
    assert (runtime / "s").stat().st_mode & 0o777 == 0o600
