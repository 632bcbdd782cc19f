"""HC-STVG: where and when a person does what a sentence says, in videos of 20 seconds (arXiv 2011.05049)."""

from easyvideor1.benchmarks import vocabulary as v

_SECONDS = 20.0


def _read(row: v.Raw) -> v.Question:
    """Version 1 has ``caption``, ``width`` and ``height``; the files of version 2 ``English`` and ``img_size``."""
    size = v.take(row, lambda row: row["img_size"][::-1] if "img_size" in row else [row["width"], row["height"]])
    caption = v.text(row, "English" if "English" in row else "caption")
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise v.QuestionError(f"its size {size!r} is not a width and a height")
    rate = v.take(row, lambda row: row["img_num"] / _SECONDS)
    answer, columns = v.framed_tube(v.take(row, "st_frame"), v.take(row, "bbox"), rate, size, _SECONDS)
    asked = f"When does this happen, and where is the person of whom it speaks? {caption}"
    return v.Question(row[v.KEY], asked, answer, "spatial_temporal_grounding", row[v.KEY], columns=columns)


_METRICS = (
    v.Metric("vIoU", v.part("viou")),
    *(v.Metric(f"vIoU > {iou}", v.part_above("viou", iou)) for iou in (0.3, 0.5)),
    v.Metric("tIoU", v.part("tiou")),
)
# The test annotations of version 2 are not public. How many rows the public ones have is not known.
for _name, _version, _files in (("hc_stvg", 2, ("**/val*v2.json",)), ("hc_stvg_v1", 1, ("test.json", "**/test.json"))):
    v.public(
        v.Benchmark(
            name=_name,
            version="1",
            title=f"HC-STVG v{_version} ({'validation' if _version == 2 else 'test'})",
            hub="https://github.com/tzhhhh123/HC-STVG",
            licence="unknown",
            scoring=v.tubes_by_frame,
            metrics=_METRICS,
            layouts=(v.Layout("authors", _files, _read, media=("video", "videos", ".")),),
        )
    )
