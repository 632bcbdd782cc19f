"""The tasks of MVBench: where their videos are, and which of them are asked about clips.

Source: ``video_chat2/mvbench.ipynb`` of OpenGVLab/Ask-Anything (branch ``main`` of the release), and the folders that
lmms-eval reads (branch ``video``, whose clips are cut already); docs/benchmark_facts.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from easyvideor1.benchmarks.question import QuestionError
from easyvideor1.benchmarks.readers.shapes import Part, Reader, choice
from easyvideor1.benchmarks.release import FILE, NUMBER, Raw

#: Folder of a task's videos, by the name of its file.
FOLDERS: Mapping[str, str] = {
    "action_antonym": "ssv2_video",
    "action_count": "perception/videos",
    "action_localization": "sta/sta_video",
    "action_prediction": "star/Charades_v1_480",
    "action_sequence": "star/Charades_v1_480",
    "character_order": "perception/videos",
    "counterfactual_inference": "clevrer/video_validation",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "moving_attribute": "clevrer/video_validation",
    "moving_count": "clevrer/video_validation",
    "moving_direction": "clevrer/video_validation",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "scene_transition": "scene_qa/video",
    "state_change": "perception/videos",
    "unexpected_action": "FunQA_test/test",
}
#: Folders of the branch ``video`` that differ.
CUT_FOLDERS: Mapping[str, str] = {
    "action_antonym": "ssv2_video_mp4",
    "action_localization": "sta/sta_video_segment",
    "action_prediction": "star/Charades_segment",
    "action_sequence": "star/Charades_segment",
    "episodic_reasoning": "tvqa/video_fps3_hq_segment",
    "fine_grained_pose": "nturgbd_convert",
    "object_interaction": "star/Charades_segment",
}
#: What tells the branch ``video`` from the branch ``main``.
CUT_MARKS = ("**/*_segment*", "**/ssv2_video_mp4*", "**/nturgbd_convert*")
#: Tasks that are asked about a clip.
CLIPS = frozenset(
    ("action_localization", "action_prediction", "action_sequence", "episodic_reasoning", "object_interaction")
)
#: Frames per second of the pictures of ``episodic_reasoning``, whose videos are folders of them.
FRAMES_FPS = 3.0


def task_of(row: Raw) -> str:
    """The task of a row, which its file is named by.

    Raises:
        QuestionError: there is no such task.
    """
    task = PurePath(row[FILE]).stem
    if task not in FOLDERS:
        raise QuestionError(f"{task!r} is no task of MVBench")
    return task


def whole_video(row: Raw) -> Any:
    """The path of the video, or the entry of the folder of frames."""
    path = f"{FOLDERS[task_of(row)]}/{row['video']}"
    return {"video": path, "fps": FRAMES_FPS} if task_of(row) == "episodic_reasoning" else path


def cut_video(row: Raw) -> str:
    """The path of the video in the branch ``video``."""
    task = task_of(row)
    return f"{CUT_FOLDERS.get(task, FOLDERS[task])}/{row['video']}"


def _limit(name: str) -> Callable[[Raw], Any]:
    return lambda row: row[name] if task_of(row) in CLIPS else None


def task_questions(video: Part, *, clips: bool) -> Reader:
    """The questions of ``json/{task}.json``, whose reference is the text of an option.

    Args:
        video: ``whole_video`` or ``cut_video``.
        clips: whether ``start`` and ``end`` say which part of the video is asked about.
    """
    limits: dict[str, Part] = {name: _limit(name) for name in ("start", "end")} if clips else {}
    return choice(
        id=lambda row: f"{task_of(row)}-{row[NUMBER]}",
        question="question",
        options="candidates",
        answer="answer",
        gold="text",
        video=video,
        facets={"task": task_of},
        **limits,
    )
