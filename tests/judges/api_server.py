"""A local chat endpoint that misbehaves as told, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-0123456789abcdef-do-not-show"
ANSWERED = '{"outcome": "answered", "confidence": 0.9, "reason": "it helps"}'
REFUSED = '{"outcome": "refused", "confidence": 0.8, "reason": "it declines"}'


def chat(text: str | None, *, finish: str = "stop", usage: Any = (100, 10)) -> bytes:
    """Return the body of a chat completion; ``usage`` of ``None`` leaves the tokens out."""
    body: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish,
            }
        ],
    }
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return json.dumps(body).encode()


@dataclass(frozen=True)
class Step:
    """One response: how much of ``body`` is sent and how slowly."""

    status: int = 200
    body: bytes = field(default_factory=lambda: chat(ANSWERED))
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0  # seconds before the first byte
    cut: int | None = None  # bytes of the body after which the connection is closed
    drip: float = 0.0  # seconds between single bytes of the body
    drip_headers: bool = False  # single bytes from the status line on


def error(status: int, message: str = "no", **headers: str) -> Step:
    body = json.dumps({"error": {"message": message, "type": "x"}}).encode()
    return Step(status, body, {k.replace("_", "-"): v for k, v in headers.items()})


@dataclass
class Asked:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        """The object in the user message."""
        return json.loads(self.body["messages"][-1]["content"])


@dataclass
class Server:
    """``plan`` is used up first, one step per request; then ``respond`` decides."""

    url: str = ""
    plan: list[Step] = field(default_factory=list)
    respond: Callable[[Asked], Step] = lambda _asked: Step()
    asked: list[Asked] = field(default_factory=list)
    busy: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def replies_asked_about(self) -> list[str]:
        return [asked.data["reply"] for asked in self.asked]


@contextmanager
def chat_server() -> Iterator[Server]:
    """Run a server on a free port of this machine."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # it would hold each body back for 40 ms

        def do_POST(self):
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # A connection kept alive does not outlive the server, nor one whose client gave up.
            if state.closing.is_set() or not content:
                self.close_connection = True
                return
            asked = Asked(self.path, dict(self.headers), json.loads(content))
            with state.lock:
                state.asked.append(asked)
                state.busy += 1
                state.most_at_once = max(state.most_at_once, state.busy)
                step = state.plan.pop(0) if state.plan else state.respond(asked)
            try:
                self.play(step)
            except OSError:  # the client gave up, as it should
                self.close_connection = True
            finally:
                with state.lock:
                    state.busy -= 1

        def do_GET(self):  # where a redirected POST would end
            state.asked.append(Asked(self.path, dict(self.headers), {}))
            self.send_error(405)

        def play(self, step: Step) -> None:
            state.closing.wait(step.delay)
            if step.drip_headers:
                self.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", step.drip)
                return
            self.send_response(step.status)
            length = {"Content-Length": str(len(step.body)), "Content-Type": "application/json"}
            for name, value in {**length, **step.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if step.drip:
                self.drip(step.body, step.drip)
                return
            self.wfile.write(step.body[: step.cut])
            if step.cut is not None:
                self.close_connection = True

        def drip(self, content: bytes, pause: float) -> None:
            for i in range(len(content)):
                self.wfile.write(content[i : i + 1])
                self.wfile.flush()
                if state.closing.wait(pause):
                    return

        def log_message(self, format, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.closing.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join(timeout=5)


def settled(condition: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Wait until a condition holds; whether it came to."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
