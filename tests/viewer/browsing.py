"""What the tests of pages in a browser share: a page that notes every request and every error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 380, "height": 800}
#: Says whether anything of a page is wider than the window.
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Watched:
    """A page of a browser, the requests that it made, and what its console said."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: self.errors.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def go(self, address: str) -> Any:
        return self.page.goto(address, wait_until="load")

    def leaving(self, own: str) -> list[str]:
        """Requests that were not made to the site itself."""
        home = urlsplit(own)
        places = [urlsplit(url) for url in self.requests]
        return [
            place.geturl()
            for place in places
            if place.scheme != "data" and (place.scheme, place.netloc) != (home.scheme, home.netloc)
        ]

    def links(self) -> list[str]:
        """Addresses on this page, without fragments."""
        found = self.page.eval_on_selector_all("a[href]", "all => all.map((one) => one.href)")
        return list(dict.fromkeys(link.partition("#")[0] for link in found))


@contextmanager
def watched(browser: Any, *, dark: bool = False, narrow: bool = False, script: bool = True) -> Iterator[Watched]:
    """A fresh page."""
    context = browser.new_context(
        viewport=NARROW if narrow else WIDE,
        color_scheme="dark" if dark else "light",
        java_script_enabled=script,
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    try:
        yield Watched(context.new_page())
    finally:
        context.close()
