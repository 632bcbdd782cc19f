"""Frames that models saw, as pictures, found by the digest of their plan."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from easyvideor1.evaluation.gallery import effect_code, frames_of, picture
from easyvideor1.records.trajectories import MediaRecord
from easyvideor1.types import EasyVideoError, Frames
from easyvideor1.video import FrameStore
from easyvideor1.viewer.library import Library, frame_store

#: Heights in pixels that pictures are made for: of a strip, of a large view.
SMALL, LARGE = 150, 900
_KNOWN_MEDIA = 20_000
#: Media whose frames stay open: effects change all frames of a medium at once.
_OPEN = 4


@dataclass(frozen=True, slots=True)
class FrameLink:
    """The addresses of one frame, small and large, and its time in seconds; ``None`` for an image."""

    small: str
    large: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Film:
    """The frames of one medium; without ``frames``, ``missing`` says why."""

    media: MediaRecord
    frames: tuple[FrameLink, ...]
    missing: str = ""


class FramePictures:
    """Serves frames by run, digest and number. Media are known once a page has shown them; no address names a file.

    Args:
        library: whose runs have the frame stores.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        self._lock = threading.Lock()
        self._media: OrderedDict[tuple[str, str], MediaRecord] = OrderedDict()
        self._open: OrderedDict[tuple[str, str], Frames] = OrderedDict()
        self._stores: dict[Path, FrameStore] = {}

    def films(self, key: str, run: Path, media: Sequence[MediaRecord]) -> tuple[Film, ...]:
        """The frames of a record's media, with the addresses of their pictures.

        Args:
            key: of the run in addresses.
            run: its directory, whose configuration names the frame store.
            media: what the model saw.
        """
        store = self._store(run)
        return tuple(self._film(key, store, item) for item in media)

    def _film(self, key: str, store: FrameStore | None, item: MediaRecord) -> Film:
        if not item.digest:
            return Film(item, (), "The model saw nothing of this file.")
        if code := effect_code(item):
            return Film(item, (), f"The frames have an effect of the run's own code ({code}), which is not run here.")
        if store is None:
            return Film(item, (), "The frame store of this run is not there: its config.yaml names none that exists.")
        try:
            there = any(store.path_of(item.part_of or item.digest, lossy=lossy).exists() for lossy in (False, True))
        except EasyVideoError as error:
            return Film(item, (), f"The frames cannot be read: {error}")
        if not there:
            return Film(item, (), f"The frame store {store.directory} does not have these frames any more.")
        with self._lock:
            self._media[key, item.digest] = item
            self._media.move_to_end((key, item.digest))
            while len(self._media) > _KNOWN_MEDIA:
                self._media.popitem(last=False)
        base = f"/frames/{quote(key)}/{item.digest}"
        times = item.timestamps if item.kind == "video" else (None,) * max(1, len(item.timestamps))
        links = (FrameLink(f"{base}/{at}", f"{base}/{at}?size=large", time) for at, time in enumerate(times))
        return Film(item, tuple(links))

    def _store(self, run: Path) -> FrameStore | None:
        found = frame_store(run)
        if found is None:
            return None
        with self._lock:  # a store remembers what it has checked
            return self._stores.setdefault(found.directory.resolve(), found)

    def picture(self, key: str, digest: str, number: int, height: int) -> tuple[str, bytes] | None:
        """The media type and the content of a frame; ``None`` if there is no such frame.

        Raises:
            EasyVideoError: the entry cannot be read, or an effect cannot be applied again.
        """
        with self._lock:
            item = self._media.get((key, digest))
            frames = self._open.get((key, digest))
        if item is None:
            return None
        if frames is None:
            store = self._store(self.library.entry(key).path)
            frames = None if store is None else frames_of(item, store.look)
            if frames is None:
                return None
            with self._lock:
                self._open[key, digest] = frames
                while len(self._open) > _OPEN:
                    self._open.popitem(last=False)
        if not 0 <= number < len(frames.pixels):
            return None
        return picture(frames.pixels[number], height)

    def routes(self) -> list[Route]:
        """The route of pictures."""

        def frame(request: Request) -> Response:
            key, digest, number = (request.path_params[name] for name in ("key", "digest", "number"))
            height = LARGE if request.query_params.get("size") == "large" else SMALL
            try:
                found = self.picture(key, digest, number, height)
            except EasyVideoError as error:
                return PlainTextResponse(f"{error}\n", 410)
            if found is None:
                return PlainTextResponse("there is no such frame; open the page that shows it again\n", 404)
            kind, content = found
            return Response(content, media_type=kind, headers={"cache-control": "private, max-age=3600"})

        return [Route("/frames/{key}/{digest}/{number:int}", frame, methods=["GET"])]
