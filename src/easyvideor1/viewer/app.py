"""The application: all parts of the site behind the guard."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from easyvideor1.viewer.guard import Guard
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.pages import PARTS
from easyvideor1.viewer.site import Site, Tab


def build_app(
    library: Library,
    *,
    token: str = "",
    data: tuple[Path, ...] = (),
    exporting: bool = False,
    exported_steps: frozenset[int] = frozenset(),
) -> Starlette:
    """The application.

    Args:
        library: what it shows.
        token: that callers must have; without one, they must name this machine by a loopback address.
        data: configurations, or files of rows, whose rows it shows.
        exporting: its pages become files (``static_site``).
        exported_steps: steps whose rollouts do, beside the first and the last of each stage.
    """
    tabs = tuple(Tab(part.TITLE, part.PATH) for part in PARTS)
    site = Site(library, tabs, data=data, exporting=exporting, exported_steps=exported_steps)

    def first(request: Request) -> Response:
        return RedirectResponse(site.tabs[0].path, 302)

    def unknown(request: Request, error: Exception) -> Response:
        return site.fault(request, "there is no such page; the links above lead to those that there are", 404)

    routes = [Route("/", first, methods=["GET"]), *site.static_routes(), *site.frames.routes()]
    for part in PARTS:
        routes += part.routes(site)
    return Starlette(
        routes=routes,
        middleware=[Middleware(Guard, token=token)],
        exception_handlers={404: unknown},
    )
