"""SEED-Bench-R1: which step comes next, at three levels of transfer (arXiv 2503.24376). Rows have the video of the
progress so far, if there is any, and a picture of now. The number of rows is in no text of the release."""

from easyvideor1.benchmarks import vocabulary as v

_LEVELS = ("L1", "L2", "L3")  # in distribution, another environment, another environment and task


def _video(row: v.Raw) -> str:
    return str(v.take(row, "videos/{video_source}/{video_basename}")) if row["task_progress_metadata"] else ""


def _images(row: v.Raw) -> tuple[str, ...]:
    return (v.take(row, "images/{video_source}/{current_observation_basename}"),)


_READ = v.choice(
    id=lambda row: f"{row[v.FILE].rpartition('_')[2].partition('.')[0]} {v.take(row, '{sample_id}')}",
    question="question",
    options=lambda row: [row[f"choice_{letter}"] for letter in "abcd"],
    answer="golden_choice_idx",
    video=_video,
    images=_images,
    facets={"level": lambda row: v.one_of(row[v.FILE].rpartition("_")[2].partition(".")[0], _LEVELS)},
)
_FILES = ("annotations/validation_L[123].jsonl", "validation_L[123].jsonl")

SEED_BENCH_R1 = v.public(
    v.Benchmark(
        name="seed_bench_r1",
        version="1",
        title="SEED-Bench-R1",
        hub="TencentARC/SEED-Bench-R1",
        licence="Apache-2.0; videos under the terms of Epic-Kitchens and Ego4D",
        metrics=v.by_value("level", _LEVELS),
        breakdown=("level",),
        layouts=(v.Layout("official", _FILES, _READ, media=(".",)),),
    )
)
