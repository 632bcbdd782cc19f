"""``evr1 view --static``: the same pages as files that a browser opens from disk, all links relative.

The site answers in this process; links are followed from its first page. Of what has no end (rollouts of all steps, all
questions of a benchmark, all rows of a source) a part is written; a link to anything else loses its address.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import os
import re
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

import httpx

from easyvideor1.files import json_bytes, read_json, write_directory
from easyvideor1.records.reading import rollout_files, stage_directories
from easyvideor1.types import ConfigError, DataError
from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.guard import POLICY
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.pages import rollouts
from easyvideor1.viewer.pages.data import file_keys

#: Names the directories that this writes, which it may replace.
MARK = "evr1-view.json"
_HOST = "http://127.0.0.1"
#: An attribute of our own templates: everything from data is escaped, so that it holds no quotes.
_LINK = re.compile(r'(?<![\w-])(href|src|data-large)="([^"]*)"')
_POLLED = re.compile(r' data-version-url="[^"]*"')
_PICTURE = re.compile(r'src="data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)"')
_SUFFIXES = {
    "text/html": ".html",
    "text/css": ".css",
    "text/javascript": ".js",
    "application/json": ".json",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
}
#: Pages with a query that are written of one path: questions of two results, rows of a source.
_MOST = {"/evaluations/question": 200}
_PER_PATH = 60
#: Rows of a source: each has a page, and leads to the next.
_ROW, _ROWS = re.compile(r"(/data/[^/]+/row/)\d+"), 300
#: From a page on disk scripts may be loaded from disk; nothing may be sent or fetched.
_POLICY = POLICY.replace("'self'", "'self' file:").replace("frame-ancestors 'none'", "").rstrip("; ")


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: pages, all files, and their bytes. ``left_out`` pages are linked and not among them."""

    directory: Path
    pages: int
    files: int
    size: int
    left_out: int
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class _Crawl:
    """What was fetched: for each address its file, relative to the directory; ``None`` for what is left out."""

    places: dict[str, str | None]
    pages: list[tuple[str, str]]
    faults: list[str]


def write_site(
    library: Library,
    out: Path,
    *,
    data: Sequence[Path] = (),
    steps: Sequence[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write the site of a library into a directory, whole or not at all.

    Args:
        library: what is shown.
        out: the directory; one that this function wrote is replaced.
        data: configurations or files of rows, as for the served site.
        steps: of whose rollouts pages are written, besides the first and the last of each stage.
        on_progress: called with (pages written, pages known so far).

    Raises:
        ConfigError: the directory has other files.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).exists())):
        raise ConfigError(f"{out} is there already, and `evr1 view --static` did not write it; name another directory")
    _refuse_others(out)
    _check_steps(library, steps)
    found: list[_Crawl] = []

    def fill(directory: Path) -> None:
        crawl = asyncio.run(_fetch_all(library, directory, tuple(data), frozenset(steps), on_progress))
        for address, name in crawl.pages:
            _relink(directory, address, name, crawl.places)
        places = [str(entry.path) for entry in library.entries()]
        files = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
        mark = {"of": places, "pages": len(crawl.pages), "files": files}
        (directory / MARK).write_bytes(json_bytes(mark, indent=2))
        found.append(crawl)
        _refuse_others(out)  # writing took a while

    write_directory(out, fill)
    files = [path for path in out.rglob("*") if path.is_file()]
    crawl = found[0]
    return Written(
        out,
        len(crawl.pages),
        len(files),
        sum(path.stat().st_size for path in files),
        sum(place is None for place in crawl.places.values()),
        tuple(crawl.faults),
    )


def _refuse_others(out: Path) -> None:
    """Refuse to replace a directory with files that are not those of its mark."""
    if not (out / MARK).exists():
        return
    listed = read_json(out / MARK).get("files")
    ours = {MARK, *(listed if isinstance(listed, list) else ())}
    others = sorted({path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} - ours)
    if others:
        raise ConfigError(
            f"{out} has {len(others)} files that `evr1 view --static` did not write, such as {others[0]}; move them, "
            "or name another directory"
        )


def _check_steps(library: Library, steps: Sequence[int]) -> None:
    there = {
        step
        for entry in (library.runs() if steps else ())
        for stage in stage_directories(entry.path)
        for step in rollout_files(stage)
    }
    if missing := sorted(set(steps) - there):
        raise ConfigError(f"--step {missing[0]}: no stage has rollouts of it; leave it out, or give one that is there")


async def _fetch_all(
    library: Library,
    directory: Path,
    data: tuple[Path, ...],
    steps: frozenset[int],
    on_progress: Callable[[int, int], None] | None,
) -> _Crawl:
    app = build_app(library, data=data, exporting=True, exported_steps=steps)
    crawl = _Crawl({}, [], [])
    waiting = deque(["/"])
    counts: Counter[str] = Counter()
    given = frozenset(file_keys(data))
    seen = {"/"}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=_HOST, follow_redirects=True, timeout=None) as client:
        while waiting:
            address = waiting.popleft()
            if not _is_wanted(address, counts, given):
                crawl.places[address] = None
                continue
            answer = await client.get(address)
            kind = answer.headers.get("content-type", "").partition(";")[0]
            if kind not in _SUFFIXES:
                raise DataError(f"{address}: the site answered with {kind or 'nothing'}; please report it")
            if answer.status_code != 200:
                crawl.faults.append(f"{address}: {_fault_words(answer.text)}")
            name = "index.html" if address == "/" else _file_name(address, _SUFFIXES[kind])
            crawl.places[address] = name
            target = directory / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(answer.content)
            if kind == "text/html":
                crawl.pages.append((str(answer.url).removeprefix(_HOST), name))
                for link in _links(answer.text, str(answer.url).removeprefix(_HOST)):
                    if link not in seen:
                        seen.add(link)
                        # The site knows the frames of pages that it has shown last: pictures before further pages.
                        (waiting.appendleft if link.startswith("/frames/") else waiting.append)(link)
            if on_progress is not None:
                on_progress(len(crawl.places), len(crawl.places) + len(waiting))
    return crawl


def _is_wanted(address: str, counts: Counter[str], given: frozenset[str]) -> bool:
    """Whether a page is written: what the part of the site says, and not more of one kind than there is room for."""
    parts = urlsplit(address)
    if parts.path.startswith(f"{rollouts.PATH}/") and not rollouts.exported(parts.path, dict(parse_qsl(parts.query))):
        return False
    # Rows of runs may take hours to probe; ``data`` names those that are wanted.
    if parts.path.startswith("/data/run-") and parts.path.split("/")[2] not in given:
        return False
    if row := _ROW.fullmatch(parts.path):
        counts[row[1]] += 1
        return counts[row[1]] <= _ROWS
    if parts.query and not parts.path.startswith("/static/"):
        counts[parts.path] += 1
        return counts[parts.path] <= _MOST.get(parts.path, _PER_PATH)
    return True


def _links(page: str, address: str) -> list[str]:
    """Addresses of the site that a page leads to, without fragments."""
    found = []
    for _, value in _LINK.findall(page):
        link = html.unescape(value).partition("#")[0]
        if link and not urlsplit(link).scheme and not link.startswith("//"):
            found.append(urljoin(address, link))
    return list(dict.fromkeys(found))


def _file_name(address: str, suffix: str) -> str:
    """The file of an address: its path, with a digest of its query."""
    parts = urlsplit(address)
    names = [
        re.sub(r"[^A-Za-z0-9._-]+", "-", unquote(name)).strip(".") or "-" for name in parts.path.split("/") if name
    ]
    path = PurePosixPath(*names)
    if path.parts[0] == "static":
        return str(path)
    if path.suffix == suffix:
        path = path.with_suffix("")
    digest = hashlib.sha256(address.encode()).hexdigest()[:10]
    plain = "/".join(names) == parts.path.strip("/") and not parts.query
    return f"{path}{'' if plain else '--' + digest}{suffix}"


def _relink(directory: Path, address: str, name: str, places: dict[str, str | None]) -> None:
    """Make the links of a page relative, pictures files, and everything else unreachable."""
    here = PurePosixPath(name).parent
    text = (directory / name).read_text(encoding="utf-8")

    def link(match: re.Match[str]) -> str:
        attribute, value = match.groups()
        plain = html.unescape(value)
        target, mark, fragment = plain.partition("#")
        if urlsplit(plain).scheme or not target:
            return match[0]
        place = places.get(urljoin(address, target))
        if place is None:
            return 'data-gone title="not in this folder"' if attribute == "href" else f'{attribute}=""'
        return f'{attribute}="{html.escape(_relative(place, here) + mark + fragment)}"'

    def picture(match: re.Match[str]) -> str:
        content = base64.b64decode(match[2])
        place = f"frames/{hashlib.sha256(content).hexdigest()[:20]}.{'png' if match[1] == 'png' else 'jpg'}"
        target = directory / place
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content)
        return f'src="{_relative(place, here)}"'

    text = _PICTURE.sub(picture, _LINK.sub(link, _POLLED.sub("", text)))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}">'
    text = text.replace('<meta charset="utf-8">', f'<meta charset="utf-8">\n{policy}', 1)
    (directory / name).write_text(text, encoding="utf-8")


def _relative(place: str, here: PurePosixPath) -> str:
    return os.path.relpath(place, here)


def _fault_words(page: str) -> str:
    """The text of a page that says what is wrong."""
    found = re.search(r'role="alert">(.*?)</div>', page, re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", found[1] if found else page)).split())[:300]
