"""Downloads that resume, show progress and are checked against pinned hashes."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx

from ..artifacts import replace_file
from ..console import note, progress
from ..errors import DownloadError

_PUBLIC_INDEX = "https://pypi.org/simple"
_TIMEOUT = httpx.Timeout(30.0, read=60.0)
_CHUNK = 1 << 20
_ATTEMPTS = 5


def fetch(url: str, to: Path, sha256: str, *, label: str) -> Path:
    """Download ``url`` to ``to`` and check its sha256; do nothing if the file is already there.

    What has arrived is kept in ``to.partial`` and continued by the next call, also after a kill.
    A connection that breaks is tried again where it stopped.

    Raises:
        DownloadError: without a network, on a full disk, or if the content has another hash.
    """
    if to.exists():
        return to
    partial = to.with_name(to.name + ".partial")
    problem: Exception | None = None
    fruitless = 0
    while fruitless < _ATTEMPTS:
        before = _size(partial)
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            _continue(url, partial, label)
            problem = None
            break
        except httpx.HTTPStatusError as error:
            problem = error
            if error.response.status_code < 500:
                break
        except httpx.InvalidURL as error:
            problem = error
            break
        except httpx.HTTPError as error:
            problem = error
        except OSError as error:
            raise DownloadError(f"cannot write {partial}: {error.strerror or error}") from error
        # Give up only after attempts that brought nothing.
        fruitless = 0 if _size(partial) > before else fruitless + 1
    if problem is not None:
        raise DownloadError(
            f"downloading {label} from {_host(url)} failed: {_what(problem)}; "
            f"{_size(partial):,} bytes are kept, run the command again to continue"
        ) from problem
    found = file_sha256(partial)
    if found != sha256:
        partial.unlink()
        raise DownloadError(
            f"{label} arrived with sha256 {found}, expected {sha256}; the file was removed. "
            "Run the command again; if it repeats, the source cannot be trusted"
        )
    replace_file(partial, to)
    return to


def _continue(url: str, partial: Path, label: str) -> None:
    start = _size(partial)
    headers = {"Range": f"bytes={start}-", "Accept-Encoding": "identity"} if start else {}
    with (
        httpx.Client(timeout=_TIMEOUT, follow_redirects=True, verify=_certificates()) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        if response.status_code == 416:  # nothing left to send: the hash decides
            return
        response.raise_for_status()
        resumed = response.status_code == 206
        length = response.headers.get("Content-Length")
        total = int(length) + (start if resumed else 0) if length else None
        with partial.open("ab" if resumed else "wb") as file, progress(bytes_=True) as bar:
            task = bar.add_task(label, total=total, completed=start if resumed else 0)
            for chunk in response.iter_bytes(_CHUNK):
                file.write(chunk)
                bar.advance(task, len(chunk))
            file.flush()
            os.fsync(file.fileno())


def package_file_url(package: str, filename: str) -> str:
    """Return the address of one file of a Python package, from the index that pip would use.

    The index is ``BABELGATE_INDEX_URL``, else pip's own setting, else the public one.

    Raises:
        DownloadError: if the index cannot be reached or does not list the file.
    """
    page = f"{_index_url().rstrip('/')}/{package}/"
    try:
        with httpx.Client(
            timeout=_TIMEOUT, follow_redirects=True, verify=_certificates()
        ) as client:
            response = client.get(page, headers={"Accept": "text/html"})
            response.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(
            f"cannot look up {package} at the package index: {_what(error)}; "
            "check the network, or set BABELGATE_INDEX_URL to an index that is reachable"
        ) from error
    parser = _Links()
    parser.feed(response.text)
    for link in parser.links:
        if link.partition("#")[0].rpartition("/")[2] == filename:
            return urljoin(str(response.url), link.partition("#")[0])
    raise DownloadError(f"the package index lists no file {filename} for {package}")


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _host(url: str) -> str:
    found = re.match(r"\w+://(?:[^/@]*@)?([^/]+)", url)
    return found[1] if found else url


def _what(error: Exception) -> str:
    """The error's first line without the password that a private index has in its address."""
    line = (str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r"://[^/@\s]*@", "://", line)


def _index_url() -> str:
    for name in ("BABELGATE_INDEX_URL", "PIP_INDEX_URL"):
        if os.environ.get(name):
            return os.environ[name]
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"],
        capture_output=True,
        text=True,
        check=False,
    )
    url = asked.stdout.strip()
    return url if asked.returncode == 0 and re.match(r"https?://", url) else _PUBLIC_INDEX


def _certificates() -> ssl.SSLContext:
    """The system's certificates, or those that pip was told to use: proxies need them."""
    bundle = next((os.environ[n] for n in ("SSL_CERT_FILE", "PIP_CERT") if os.environ.get(n)), None)
    if bundle is not None and not Path(bundle).exists():
        note(f"ignoring certificates {bundle}: no such file")
        bundle = None
    return ssl.create_default_context(cafile=bundle)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.links.append(unescape(href))
