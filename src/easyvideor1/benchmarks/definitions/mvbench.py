"""MVBench: 20 tasks of 200 choice questions about short videos (arXiv 2311.17005)."""

from easyvideor1.benchmarks import vocabulary as v
from easyvideor1.benchmarks.readers.mvbench_tasks import CUT_MARKS, cut_video, task_questions, whole_video

# Rows of the published file do not name their task, so they come to no mean of tasks; those of clips have limits.
_PUBLISHED = v.published({"task": lambda _: ""}, start=v.optional("start"), end=v.optional("end"))
_FILES, _MEDIA = ("json/*.json",), ("video", "videos", ".")

MVBENCH = v.public(
    v.Benchmark(
        name="mvbench",
        version="1",
        title="MVBench",
        hub="OpenGVLab/MVBench",
        licence="MIT for the annotations; the videos have the terms of their sources",
        count=4000,  # inferred: 20 tasks of 200
        video=v.VideoBudget(rule="uniform", frames=16, max_pixels=224 * 224),
        video_source="authors",
        metrics=(v.Metric("mean of tasks", macro=("task",)), v.Metric("accuracy")),
        breakdown=("task",),
        layouts=(
            v.Layout("branch video", _FILES, task_questions(cut_video, clips=False), _MEDIA, needs=CUT_MARKS),
            v.Layout("branch main", _FILES, task_questions(whole_video, clips=True), _MEDIA),
            v.Layout("published", ("mvbench.json",), _PUBLISHED),
        ),
    )
)
