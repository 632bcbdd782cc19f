"""A world on disk: media, rows, ground truth and a manifest. An interrupted world is continued."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from easyvideor1.files import write_text
from easyvideor1.tasks import canonical_task
from easyvideor1.toyworld.encode import Encoding, write_image, write_video
from easyvideor1.toyworld.plan import Clip, PlannedSplit, plan_world
from easyvideor1.toyworld.scene import paint, paint_all
from easyvideor1.toyworld.spec import WorldSpec, spec_from_json
from easyvideor1.types import DataError, EasyVideoError

_FORMAT = 1
_MANIFEST = "manifest.json"
_SCENES = "scenes.jsonl"


@dataclass(frozen=True, slots=True)
class SplitInfo:
    """One split: its rows file (relative to the world) and what it holds."""

    path: str
    rows: int
    videos: int
    images: int
    kinds: Mapping[str, int]
    tasks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A complete world. ``reused`` is True if it existed before and nothing was written."""

    root: Path
    spec: WorldSpec
    splits: Mapping[str, SplitInfo]
    reused: bool = False

    def rows_path(self, split: str) -> Path:
        """The JSONL file of ``split``."""
        return self.root / self.splits[split].path


def write_world(
    spec: WorldSpec, out: str | os.PathLike[str], on_progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """Write the world of ``spec`` into the directory ``out``, unless it is there.

    A complete world of the same spec is reused; an interrupted one is continued. Rows are byte-identical for
    equal specs. Besides the three JSONL files there are ``media/``, ``scenes.jsonl`` (ground truth per clip) and
    ``manifest.json``, which is marked complete last.

    Args:
        spec: What to write.
        out: Directory; made if absent.
        on_progress: Called with (done, total) after each media file.

    Raises:
        ConfigError: the spec cannot be met; nothing is written.
        DataError: ``out`` contains a world of another spec, or other files.
        MediaError: a clip cannot be encoded as asked. Of a world that this call began, nothing is left then.
    """
    root = Path(out)
    found = _open_world(spec, root)
    if found is not None:
        return found
    splits = list(plan_world(spec))  # before the directory is claimed: a spec that cannot be met leaves nothing
    with _begun(spec, root):
        total = sum(len(split.clips) for split in splits)
        done = 0
        for split in splits:
            (root / "media" / split.name).mkdir(parents=True, exist_ok=True)
            for clip in split.clips:
                if not (root / clip.path).exists():  # a file with its final name is complete
                    _write_clip(spec, clip, root)
                done += 1
                if on_progress is not None:
                    on_progress(done, total)
    infos = {}
    for split in splits:
        write_text(root / f"{split.name}.jsonl", _lines(split.rows))
        infos[split.name] = _describe(split)
    write_text(
        root / _SCENES, _lines({"clip": c.id, "path": c.path, **c.scene.as_json()} for s in splits for c in s.clips)
    )
    manifest = Manifest(root, spec, infos)
    _write_manifest(manifest, complete=True)
    return manifest


def _open_world(spec: WorldSpec, root: Path) -> Manifest | None:
    """The complete world in the directory, or ``None`` if it can be written there; nothing is changed."""
    path = root / _MANIFEST
    if not path.exists():
        others = (
            sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(".")) if root.is_dir() else []
        )
        if others:
            raise DataError(
                f"{root} contains files but no {_MANIFEST} ({', '.join(others[:3])}); choose an empty directory"
            )
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        mine = json.loads(json.dumps(spec.as_json()))
        same = data["format"] == _FORMAT and data["spec"] == mine
        complete: bool = data["complete"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the manifest of a toyworld ({error!r}); choose an empty directory") from error
    if not same:
        raise DataError(
            f"{root} has the world of another spec ({_difference(data, mine)}); choose another directory or remove it"
        )
    if not complete:
        return None
    splits = {name: SplitInfo(**info) for name, info in data["splits"].items()}
    manifest = Manifest(root, spec_from_json(data["spec"]), splits, reused=True)
    return manifest if _whole(manifest) else None


@contextmanager
def _begun(spec: WorldSpec, root: Path) -> Iterator[None]:
    """The directory, marked with this spec. A world that begins here and cannot be encoded as asked is removed again,
    for its mark would refuse every other spec."""
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{root} cannot be a directory: {error}; choose another one") from error
    continued = (root / _MANIFEST).exists()
    if not continued:
        _write_manifest(Manifest(root, spec, {}), complete=False)
    try:
        yield
    except EasyVideoError:
        if not continued:
            shutil.rmtree(root / "media", ignore_errors=True)
            (root / _MANIFEST).unlink(missing_ok=True)
            with suppress(OSError):  # somebody else has put something there
                for path in made:
                    path.rmdir()
        raise


def _difference(data: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    if data["format"] != _FORMAT:
        return f"format {data['format']} there, {_FORMAT} here"
    there = data["spec"]
    keys = [key for key in mine if there.get(key) != mine[key]]
    return ", ".join(f"{key} is {there.get(key)!r} there, {mine[key]!r} here" for key in keys)


def _whole(manifest: Manifest) -> bool:
    """Whether all files of the rows exist; if not, the world is completed again."""
    if not (manifest.root / _SCENES).exists():
        return False
    for split in manifest.splits:
        if not manifest.rows_path(split).exists():
            return False
        with manifest.rows_path(split).open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                if not all((manifest.root / path).exists() for path in (*row["videos"], *row["images"])):
                    return False
    return True


def _write_clip(spec: WorldSpec, clip: Clip, root: Path) -> None:
    if clip.media == "image":
        write_image(root / clip.path, paint(clip.scene, 0.0))
        return
    encoding = Encoding(spec.codec or None, spec.crf, spec.gop, spec.bframes, clip.rotation)
    timestamps = clip.scene.times if spec.vfr else None
    write_video(root / clip.path, paint_all(clip.scene), fps=spec.fps, timestamps=timestamps, encoding=encoding)


def _write_manifest(manifest: Manifest, *, complete: bool) -> None:
    splits = {name: asdict(info) for name, info in manifest.splits.items()}
    data = {"format": _FORMAT, "complete": complete, "spec": manifest.spec.as_json(), "splits": splits}
    write_text(manifest.root / _MANIFEST, json.dumps(data, indent=2) + "\n")


def _describe(split: PlannedSplit) -> SplitInfo:
    media = Counter(clip.media for clip in split.clips)
    return SplitInfo(
        path=f"{split.name}.jsonl",
        rows=len(split.rows),
        videos=media["video"],
        images=media["image"],
        kinds=dict(sorted(Counter(row["kind"] for row in split.rows).items())),
        tasks=dict(sorted(Counter(canonical_task(row["problem_type"]) for row in split.rows).items())),
    )


def _lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
