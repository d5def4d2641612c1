"""HTTP for guests: in, a unix socket and a function from request to reply; out, a server on that socket.

A guest's TCP connection to an address of the link-local net becomes `nc -U <socket>` (QEMU's guestfwd), so the
socket a request comes in on says which guest sent it, and no guest can speak as another.
"""

import shutil
import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

MAX_BODY_BYTES = 1024 * 1024
IDLE_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Request:
    """`path` is decoded and without its query; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`body` is what is sent, or the file that holds it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path = b""

    @classmethod
    def text(cls, text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> "Reply":
        return cls(status=status, body=text.encode(), headers={"content-type": "text/plain", **(headers or {})})


class HangUp(Exception):
    """Raised by a responder when there is nobody here to answer: the connection is closed without a word."""


Responder = Callable[[Request], Reply]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: "UnixServer"

    def _answer(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        if size > MAX_BODY_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        request = Request(
            method=self.command,
            path=unquote(urlsplit(self.path).path),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(size),
        )
        try:
            reply = self.server.respond(request)
        except HangUp:
            self.close_connection = True
            return
        length = reply.body.stat().st_size if isinstance(reply.body, Path) else len(reply.body)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(reply.body, Path):
            with reply.body.open("rb") as file:
                shutil.copyfileobj(file, self.wfile)
        else:
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_PUT = do_POST = _answer

    def address_string(self) -> str:
        return "guest"

    def log_message(self, format: str, *args: object) -> None:  # the name is http.server's
        """Nothing: guests ask for metadata many times a boot, and tokens are in the headers."""


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves `respond` on `path` until closed; a thread a connection."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, respond: Responder) -> None:
        self.respond = respond
        self._path = path
        super().__init__(str(path), _Handler)
        path.chmod(0o600)
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A guest that hangs up in the middle is nobody's error."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._path.unlink(missing_ok=True)


def static_files(roots: Callable[[], Mapping[str, Path]]) -> Responder:
    """Read-only files: the first part of a path picks a root by name, the rest is a path below it.

    Links are followed only as long as they stay below the root; folders are not listed.
    """

    def respond(request: Request) -> Reply:
        if request.method not in {"GET", "HEAD"}:
            return Reply.text("read only\n", status=HTTPStatus.METHOD_NOT_ALLOWED)
        name, _, rest = request.path.lstrip("/").partition("/")
        root = roots().get(name)
        if root is not None and rest:
            top = root.resolve()
            wanted = (top / rest.lstrip("/")).resolve()
            if wanted.is_relative_to(top) and wanted.is_file():
                return Reply(body=wanted, headers={"content-type": "application/octet-stream"})
        return Reply.text("no such file\n", status=HTTPStatus.NOT_FOUND)

    return respond
