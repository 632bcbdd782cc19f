"""STVG of ST-Align-Benchmark: when and where an object does what a sentence says (arXiv 2501.08282).

The authors compare boxes at the frames that their model sees; here they are at whole seconds, as in the published file
of the same name. Whether the release has frames per second is unknown; a row without them is refused."""

from collections.abc import Iterable
from typing import Any

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers import tubes

_CLIP: dict[str, Any] = {"video": "video_path", "start": "start", "end": "end", "columns": "columns"}
_GOLD: dict[str, Any] = {"question": "asked", "answer": "gold", "facets": {"boxes": tubes.in_gold("gold")}}
_READ = v.plain(id="{video_path} {@number}", task="spatial_temporal_grounding", **_GOLD, **_CLIP)
_PUBLISHED = v.published({"boxes": tubes.in_gold("solution")}, columns=lambda _: {"coordinates": "pixel"})
_WITH = {"boxes": "yes"}  # a span without a whole second has no box, and nothing in space to be right about
_PARTS = {"tIoU": ("temporal_iou", {}), "sIoU": ("box_iou_common", _WITH), "stIoU": ("box_iou_union", _WITH)}


def _rows(row: v.Raw) -> v.Question | Iterable[v.Question]:
    if "meta" not in row:
        return _PUBLISHED(row)
    # The authors' reader takes the first 2,000 rows of the file.
    return [_READ({**row, **v.take(row, tubes.st_align)})] if row[v.NUMBER] <= 2000 else []


_MEANS = [v.Metric(f"m_{name}", v.part(part), where) for name, (part, where) in _PARTS.items()]
_OVER = [(name, *of, iou) for name, of in _PARTS.items() for iou in (0.3, 0.5, 0.7)]
_SHARES = [v.Metric(f"{name}@{iou}", v.part_at_least(part, iou), where) for name, part, where, iou in _OVER]
_ABOUT: dict[str, Any] = {"title": "STVG (ST-Align-Benchmark)", "hub": "appletea2333/ST-Align-Benchmark"}
_LAYOUT = v.Layout("official or published", ("stvg.json",), _rows, media=("sources", "videos", "."))
_ABOUT |= {"licence": "unknown", "count": 2000, "breakdown": ("boxes",), "layouts": (_LAYOUT,)}
STVG = v.public(v.Benchmark("stvg", "1", metrics=(*_MEANS, *_SHARES), **_ABOUT))
