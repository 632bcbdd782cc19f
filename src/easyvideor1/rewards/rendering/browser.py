"""A headless Chromium that turns documents into pictures.

It is driven over two pipes (the DevTools protocol, no port). One window shows one page after the other. A page leaves
nothing for the next: it runs no scripts, and nothing is stored. At the deadline of a page its process is killed, and
the next page starts another.

What a page may not do, and what stops it:

- Scripts: switched off by the protocol, and again by the page's content security policy.
- Network: the process has none, where the kernel lets us make namespaces. In any case we answer the request for the
  page and refuse every other one, and any further connection meets a proxy that does not exist.
- Files: the page comes from an address that is not ``file:``, and requests for files are refused like the others.
- The browser's own sandbox stays on, except where the browser does not start with it: for root on a kernel that makes
  no namespaces, in containers without the rights that it needs.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import io
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from easyvideor1.rewards.concurrency import Pool
from easyvideor1.types import EasyVideoError

Image = NDArray[np.uint8]

#: Seconds that one page may take.
PAGE_SECONDS = 10.0
_START_SECONDS = 30.0
_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome", "headless_shell")
_PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_LAUNCHER = Path(__file__).with_name("launch.py")
_ADDRESS = "http://page.invalid/"
_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:"
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-crash-reporter",
    "--disable-features=BackForwardCache,Translate",
    "--no-first-run",
    "--no-default-browser-check",
    "--mute-audio",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--proxy-server=127.0.0.1:1",
    "--proxy-bypass-list=<-loopback>",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


class RenderError(EasyVideoError):
    """There is no browser, or it does not start; the message says what was tried."""


class PageError(EasyVideoError):
    """This page cannot be rendered within its limits."""


def find_chromium(path: str | None = None) -> str | None:
    """The browser to render with: ``path``, or the first of the usual names that is installed; ``None`` without one."""
    if path is not None:
        return shutil.which(path)
    found = (shutil.which(name) for name in (*_NAMES, *_PLACES))
    return next((name for name in found if name), None)


@functools.cache
def shared_browsers(path: str) -> Pool[Browser]:
    """The browsers of this process; each starts with its first page and ends with the process."""
    browsers = Pool(lambda: Browser(path))
    atexit.register(browsers.close)
    return browsers


class Browser:
    """Renders one page after the other. Thread-safe."""

    def __init__(self, path: str, *, namespaces: bool = True) -> None:
        self.path = path
        self._namespaces = namespaces
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def render(self, document: str, side: int) -> Image:
        """The top of an HTML document in a square window, as RGB of shape ``(side, side, 3)``, over white.

        Raises:
            RenderError: the browser does not start.
            PageError: the page goes beyond its limits, twice.
        """
        with self._lock:
            for last in (False, True):
                if self._session is None:
                    self._session = self._started()
                try:
                    return self._session.picture(document, side)
                except (TimeoutError, OSError, EOFError, _ProtocolError, ValueError) as error:
                    self._session.close()
                    self._session = None
                    if last:  # the first time it may have been the browser's fault
                        raise PageError(f"the page could not be rendered: {type(error).__name__}: {error}") from error
        raise AssertionError("unreachable")

    def _started(self) -> _Session:
        try:
            return _Session(self.path, self._namespaces)
        except RenderError:
            return _Session(self.path, self._namespaces, "--no-sandbox")

    def close(self) -> None:
        """End the process; the next page starts another."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None


class _ProtocolError(Exception):
    """The browser refused a command."""


class _Session:
    """One process and the conversation with it."""

    def __init__(self, path: str, namespaces: bool, *flags: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="evr1-render-")
        self._buffer, self._number, self._page = b"", 0, ""
        self._process: subprocess.Popen[bytes] | None = None
        self._pipes: list[int] = []
        try:
            self._start(path, namespaces, flags)
            self._until = time.monotonic() + _START_SECONDS
            self._call("Browser.getVersion")
        except (OSError, EOFError, TimeoutError, ValueError, _ProtocolError) as error:
            said = self._errors()
            self.close()
            raise RenderError(
                f"{path} does not start: {type(error).__name__}. {said} - try it by hand with --headless --screenshot, "
                "name another browser in rewards.chromium, or set rewards.render: off"
            ) from error

    def _start(self, path: str, namespaces: bool, flags: tuple[str, ...]) -> None:
        theirs_read, self._write = os.pipe()
        self._read, theirs_write = os.pipe()
        self._pipes = [self._write, self._read]
        command = [sys.executable, "-I", str(_LAUNCHER), str(int(namespaces)), str(theirs_read), str(theirs_write)]
        environment = {name: os.environ[name] for name in ("PATH", "FONTCONFIG_PATH") if name in os.environ}
        home = dict.fromkeys(("HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), self._profile)
        try:
            with Path(self._profile, "errors.txt").open("wb") as errors:
                self._process = subprocess.Popen(
                    [*command, path, *_FLAGS, *flags, f"--user-data-dir={self._profile}/profile", "about:blank"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    pass_fds=(theirs_read, theirs_write),
                    start_new_session=True,
                    env=environment | home | {"LANG": "C.UTF-8", "TZ": "UTC"},
                )
        finally:
            os.close(theirs_read)
            os.close(theirs_write)

    def close(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        for pipe in self._pipes:
            os.close(pipe)
        self._pipes = []
        # Killed children may still be writing for a moment: what is left then is a temporary directory.
        shutil.rmtree(self._profile, ignore_errors=True)

    def picture(self, document: str, side: int) -> Image:
        self._until = time.monotonic() + PAGE_SECONDS
        page = self._page = self._page or self._open_page()
        size = {"width": side, "height": side, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", size, page)
        self._load(document, page)
        clip = {"x": 0, "y": 0, "width": side, "height": side, "scale": 1}
        shot = self._call("Page.captureScreenshot", {"format": "png", "clip": clip}, page)
        with PillowImage.open(io.BytesIO(base64.b64decode(shot["data"])), formats=["PNG"]) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        if pixels.shape != (side, side, 3):
            raise ValueError(f"a picture of {pixels.shape}")
        return pixels

    def _open_page(self) -> str:
        """The session of the one window, in a context that keeps nothing."""
        context = self._call("Target.createBrowserContext")["browserContextId"]
        made = self._call("Target.createTarget", {"url": "about:blank", "browserContextId": context})
        attached = self._call("Target.attachToTarget", {"targetId": made["targetId"], "flatten": True})
        page: str = attached["sessionId"]
        self._call("Emulation.setScriptExecutionDisabled", {"value": True}, page)
        self._call("Network.setCacheDisabled", {"cacheDisabled": True}, page)
        self._call("Animation.enable", {}, page)
        self._call("Animation.setPlaybackRate", {"playbackRate": 0}, page)
        self._call("Page.enable", {}, page)
        self._call("Fetch.enable", {}, page)
        return page

    def _load(self, document: str, page: str) -> None:
        """Answer the request for the page with the document and refuse all others, until the page has loaded."""
        address = f"{_ADDRESS}{self._number}"  # another one each time, so that no event is taken for this page's
        self._send("Page.navigate", {"url": address}, page)
        served = False
        while True:
            event = self._receive()
            if event.get("sessionId") != page:
                continue
            name, given = event.get("method"), event.get("params", {})
            if name == "Page.loadEventFired" and served:
                return
            if name == "Inspector.targetCrashed":
                raise EOFError("the page crashed")
            if name != "Fetch.requestPaused":
                continue
            if served or given["request"]["url"] != address:
                self._refuse(given["requestId"], page)
                continue
            served = True
            headers = {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": _POLICY,
                "Cache-Control": "no-store",
            }
            answer = {
                "requestId": given["requestId"],
                "responseCode": 200,
                "responseHeaders": [{"name": name, "value": value} for name, value in headers.items()],
                "body": base64.b64encode(document.encode("utf-8", "replace")).decode(),
            }
            self._send("Fetch.fulfillRequest", answer, page)

    def _refuse(self, request: str, page: str) -> None:
        self._send("Fetch.failRequest", {"requestId": request, "errorReason": "BlockedByClient"}, page)

    def _call(self, method: str, given: dict[str, Any] | None = None, page: str = "") -> dict[str, Any]:
        """Send a command and wait for what it returns; requests that come in between are refused."""
        number = self._send(method, given, page)
        while True:
            message = self._receive()
            if message.get("id") == number:
                if "error" in message:
                    raise _ProtocolError(f"{method}: {message['error'].get('message')}")
                result: dict[str, Any] = message["result"]
                return result
            if message.get("method") == "Fetch.requestPaused":
                self._refuse(message["params"]["requestId"], message["sessionId"])
            if message.get("method") == "Inspector.targetCrashed":
                raise EOFError("the page crashed")

    def _send(self, method: str, given: dict[str, Any] | None = None, page: str = "") -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": given or {}}
        if page:
            message["sessionId"] = page
        data = json.dumps(message).encode() + b"\0"
        while data:
            _, ready, _ = select.select([], [self._write], [], self._left())
            if not ready:
                raise TimeoutError(f"{method} took too long")
            # At most what a pipe takes at once, so that a browser that does not read cannot block us.
            data = data[os.write(self._write, data[: select.PIPE_BUF]) :]
        return self._number

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], self._left())
            if not ready:
                raise TimeoutError("it took too long")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                raise EOFError("the browser has ended")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def _errors(self) -> str:
        try:
            said = Path(self._profile, "errors.txt").read_bytes()
        except FileNotFoundError:
            return ""
        return " ".join(said[-500:].decode("utf-8", "replace").split())
