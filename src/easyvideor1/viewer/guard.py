"""Who may ask the viewer, what for, and what browsers may do with its answers."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from easyvideor1.serving.address import is_loopback

#: Nothing but the site's own files: no inline script or style, no frame around it, no request to anywhere else.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
#: The parameter of an address that carries the token.
TOKEN = "token"


class Guard:
    """Middleware: GET and HEAD alone; without a token names of this machine alone, against pages that a browser was
    made to show under another name (DNS rebinding); with one, that token, given once in an address and kept in a
    cookie.

    Args:
        app: what is guarded.
        token: that callers must have; empty for none.
    """

    def __init__(self, app: ASGIApp, token: str = "") -> None:
        self.app = app
        self.token = token
        # Cookies do not tell ports apart: viewers with other tokens on this host have cookies of their own.
        digest = hashlib.sha256(f"cookie of evr1 view {token}".encode(errors="surrogateescape")).hexdigest()
        self.cookie = f"evr1_view_{digest[:8]}"
        # Not the token itself, which may have letters that cookies cannot have.
        self._kept = digest[8:]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that gets no further."""
        if scope["method"] not in ("GET", "HEAD"):
            what = "the viewer only shows: GET and HEAD are its methods\n"
            return PlainTextResponse(what, 405, {"allow": "GET, HEAD"})
        headers = Headers(scope=scope)
        if not self.token:
            name = _host_name(headers.get("host", ""))
            if is_loopback(name):
                return None
            what = f"the host name {name[:80]!r} is not one of this machine; use 127.0.0.1 or localhost\n"
            return PlainTextResponse(what, 400)
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == TOKEN]
        if given and _same(given[-1], self.token):
            rest = urlencode([pair for pair in query if pair[0] != TOKEN])
            # The token leaves the address, so that links that people pass on do not carry it.
            place = _own_path(scope) + (f"?{rest}" if rest else "")
            answer = RedirectResponse(place, 303)
            answer.set_cookie(self.cookie, self._kept, httponly=True, samesite="strict", path="/")
            return answer
        if _same(_cookie(headers.get("cookie", ""), self.cookie), self._kept):
            return None
        what = f"this viewer needs its token: open the address with ?{TOKEN}=... that evr1 view has printed\n"
        return PlainTextResponse(what, 401)


def _same(given: str, secret: str) -> bool:
    """Whether somebody gave a secret. Digests have one length, so that the time tells nothing of it."""
    pair = [hashlib.sha256(text.encode(errors="surrogateescape")).digest() for text in (given, secret)]
    return hmac.compare_digest(*pair)


def _own_path(scope: Scope) -> str:
    """The path that was asked for, as one of this host: ``//name`` would lead to another."""
    raw = scope.get("raw_path") or b"/"
    return "/" + raw.decode("latin-1").partition("?")[0].lstrip("/\\")


def _host_name(host: str) -> str:
    """The name of a Host header without its port."""
    name = host.rpartition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.strip("[")


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""
