"""Rollouts: choose a run, search its groups, look at one."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from easyvideor1.viewer.site import Site

TITLE, PATH = "Rollouts", "/rollouts"


def routes(site: Site) -> list[Route]:
    """The routes of this part."""

    def runs(request: Request) -> Response:
        return site.page(request, "rollout_runs.html.j2", runs=site.library.runs())

    return [site.route("/rollouts", runs)]
