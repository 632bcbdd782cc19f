"""What the pages of the viewer share: the library, templates, frames, and how errors are shown."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from easyvideor1 import __version__
from easyvideor1.evaluation.charts import interval_chart
from easyvideor1.evaluation.templating import page_environment
from easyvideor1.types import EasyVideoError
from easyvideor1.viewer.frames import FramePictures
from easyvideor1.viewer.histories import Histories
from easyvideor1.viewer.jobs import Jobs
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.run_curves import sparkline
from easyvideor1.viewer.run_rows import ago

Handler = Callable[[Request], Response]
_LOG = logging.getLogger(__name__)
_STATIC = Path(__file__).with_name("static")
#: Templates of ``evaluation`` that the style of the site begins with.
_REPORT_STYLES = ("style.css.j2", "benchmark_report.css.j2")


@dataclass(frozen=True, slots=True)
class Tab:
    """One part of the site in the navigation."""

    title: str
    path: str


class Site:
    """Given to every part of the site.

    Args:
        library: runs and evaluations.
        tabs: of the navigation.
        data: configuration files, or files of rows, whose rows are shown before anything is trained.
        exporting: pages are written to files: they wait for work that a served page would show the progress of.
        exported_steps: steps whose rollouts become files, beside the first and the last of each stage.
    """

    def __init__(
        self,
        library: Library,
        tabs: tuple[Tab, ...],
        *,
        data: tuple[Path, ...] = (),
        exporting: bool = False,
        exported_steps: frozenset[int] = frozenset(),
    ) -> None:
        self.library = library
        self.tabs = tabs
        self.data = data
        self.exporting = exporting
        self.exported_steps = exported_steps
        self.histories = Histories()
        self.jobs = Jobs()
        self.frames = FramePictures(library)
        self.environment = page_environment("easyvideor1.viewer")
        self.environment.globals |= {"query": query, "version": __version__}
        self.environment.filters |= {"sparkline": sparkline, "ago": ago, "interval_chart": interval_chart}
        self.files = self._static_files()
        tags = {name: hashlib.sha256(content).hexdigest()[:12] for name, (_, content) in self.files.items()}
        self.environment.globals["static"] = lambda name: f"/static/{name}?v={tags[name]}"

    def page(self, request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
        """A page, or a part of one, as a template makes it; ``tab`` is the path of the part of the site."""
        path = request.url.path
        tab = max((tab.path for tab in self.tabs if path.startswith(tab.path)), key=len, default="")
        made = self.environment.get_template(template).render(
            tabs=self.tabs, tab=tab, request=request, exporting=self.exporting, **values
        )
        # Text of models may contain half a surrogate pair, which UTF-8 cannot encode.
        return HTMLResponse(made.encode("utf-8", errors="replace"), status)

    def route(self, path: str, handler: Handler) -> Route:
        """A route whose errors become a page that says what is wrong."""

        @functools.wraps(handler)
        def shown(request: Request) -> Response:
            try:
                return handler(request)
            except EasyVideoError as error:
                return self.fault(request, str(error), 404)
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                return self.fault(request, f"{where}{error.strerror or error}; check the path and its permissions", 500)
            except Exception as error:  # noqa: BLE001 - logged and shown: the other pages go on
                _LOG.exception("%s cannot be shown", request.url.path)
                what = f"this page cannot be made ({type(error).__name__}: {error}); the other pages work"
                return self.fault(request, what, 500)

        return Route(path, shown, methods=["GET"])

    def fault(self, request: Request, what: str, status: int) -> Response:
        """The page of an error."""
        return self.page(request, "fault.html.j2", status=status, what=what)

    def static_routes(self) -> list[Route]:
        """The style and the script."""

        def file(request: Request) -> Response:
            found = self.files.get(request.path_params["name"])
            if found is None:
                return self.fault(request, "there is no such file", 404)
            kind, content = found
            return Response(content, media_type=kind, headers={"cache-control": "private, max-age=31536000, immutable"})

        return [Route("/static/{name}", file, methods=["GET"])]

    def _static_files(self) -> dict[str, tuple[str, bytes]]:
        reports = [self.environment.get_template(name).render() for name in _REPORT_STYLES]
        styles = [(_STATIC / name).read_bytes() for name in ("viewer.css", "pages.css")]
        script = b"\n".join((_STATIC / name).read_bytes() for name in ("viewer.js", "pages.js"))
        return {
            "viewer.css": ("text/css; charset=utf-8", b"\n".join([*(each.encode() for each in reports), *styles])),
            "viewer.js": ("text/javascript; charset=utf-8", script),
        }


def query(values: Mapping[str, Any] | Iterable[tuple[str, Any]], **changes: Any) -> str:
    """The query of an address from its pairs, with some values changed; those that are empty are left out."""
    pairs = values.items() if isinstance(values, Mapping) else values
    kept = [*((name, value) for name, value in pairs if name not in changes), *changes.items()]
    return urlencode([(name, value) for name, value in kept if value not in (None, "")])
