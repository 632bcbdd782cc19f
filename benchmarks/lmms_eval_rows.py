"""Random rows in layouts that both this package and lmms-eval read.

Each maker gives a row, and what a right reply says: (options, place of the right one), or (None, the answer).
"""

import random
from collections.abc import Callable
from string import ascii_uppercase as LETTERS
from typing import Any

from easyvideor1.benchmarks.release import FILE

Made = tuple[dict[str, Any], list[str] | None, Any]
Maker = Callable[[random.Random, int], Made]

WORDS = ("walks", "jumps", "cooks", "reads", "paints", "swims", "drives", "sings", "writes", "climbs", "rides", "rows")


def options(rng: random.Random, count: int) -> tuple[list[str], int]:
    return rng.sample(WORDS, count), rng.randrange(count)


def lettered(texts: list[str], form: str = "{}. {}") -> list[str]:
    return [form.format(letter, text) for letter, text in zip(LETTERS, texts, strict=False)]


def video_mme(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 4)
    facets = {"domain": "Knowledge", "sub_category": "Law", "task_type": "Counting Problem", "videoID": f"v{n // 3}"}
    row = {"question_id": f"{n}", "duration": rng.choice(["short", "medium", "long"]), "question": "What?", **facets}
    return row | {"options": lettered(texts), "answer": LETTERS[gold]}, texts, gold


def video_mme_v2(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 8)
    group = n // 4
    structure = ("[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]")[group // 2 % 3] if group % 2 else None
    row: dict[str, Any] = {
        "video_id": f"{group:03}",
        "question_id": f"{group:03}-{n % 4 + 1}",
        "group_structure": structure,
    }
    row |= {"group_type": "logic" if group % 2 else "relevance", "level": 1, "second_head": "a", "third_head": "b"}
    return row | {"question": "What?", "options": "\n".join(lettered(texts)), "answer": LETTERS[gold]}, texts, gold


def mvbench(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, rng.choice([2, 3, 4]))
    file = f"json/{rng.choice(['action_sequence', 'moving_count', 'object_shuffle'])}.json"
    return (
        {FILE: file, "video": f"{n}.mp4", "question": "What?", "candidates": texts, "answer": texts[gold]},
        texts,
        gold,
    )


def tempcompass(rng: random.Random, n: int) -> Made:
    kind = rng.choice(["multi-choice", "yes_no", "caption_matching"])
    row = {FILE: f"{kind}/test-0.parquet", "video_id": f"{n}", "dim": rng.choice(["action", "speed"])}
    if kind == "yes_no":
        said = rng.choice(["yes", "no"])
        return row | {"question": "Does he run?", "answer": said}, None, said
    if kind == "multi-choice":
        texts, gold = options(rng, 4)
        lines = lettered(texts)
    else:
        texts, gold = options(rng, 2)
        lines = lettered(texts, rng.choice(["Sentence {}: {}", "Caption {}: {}"]))
    return row | {"question": "\n".join(["What?", *lines]), "answer": lines[gold]}, texts, gold


def lvbench(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 4)
    return {"video_path": f"{n}.mp4", "question": "What?", "options": texts, "answer": LETTERS[gold]}, texts, gold


def longvideobench(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, rng.choice([4, 5]))
    row = {"id": f"{n}", "video_path": f"{n}.mp4", "question": "What?", "correct_choice": gold}
    row |= {"duration_group": rng.choice([15, 60, 600, 3600]), "question_category": rng.choice(["S2E", "T2O"])}
    return row | {f"option{at}": ([*texts, "N/A"])[at] for at in range(5)}, texts, gold


def mlvu(*tasks: str) -> Maker:
    def make(rng: random.Random, n: int) -> Made:
        texts, gold = options(rng, 4)
        asked = "\n".join(["What?", *lettered(texts, "({}) {}")])
        return (
            {"video_name": f"{n}.mp4", "question": asked, "answer": LETTERS[gold], "task_type": rng.choice(tasks)},
            texts,
            gold,
        )

    return make


def video_holmes(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 6)
    row = {
        "video ID": f"v{n // 3}",
        "Question ID": n,
        "Question": "Why?",
        "Question Type": rng.choice(["SR", "IMC", "TA"]),
    }
    return row | {"Options": dict(zip(LETTERS, texts, strict=False)), "Answer": LETTERS[gold]}, texts, gold


def mmvu(rng: random.Random, n: int) -> Made:
    path = f"videos/{rng.choice(['Art', 'Biology', 'Computer_Science', 'Dentistry'])}/{n}.mp4"
    row = {
        "id": f"validation_{n}",
        "video_path": path,
        "metadata": {"subject": path.split("/")[1]},
        "question": "What?",
    }
    texts, gold = options(rng, 5)
    choices = dict(zip(LETTERS, texts, strict=False))
    return row | {"question_type": "multiple-choice", "choices": choices, "answer": LETTERS[gold]}, texts, gold


def video_mmmu(rng: random.Random, n: int) -> Made:
    subject = rng.choice(["Art_Theory", "Math", "Finance"])
    row: dict[str, Any] = {FILE: "Adaptation/test-0.parquet", "id": f"validation_{subject}_{n}", "question": "What?"}
    if n % 3 == 0:
        number = str(rng.randrange(1, 400) / 4)
        return row | {"question_type": "open", "options": [], "answer": number}, None, number
    texts, gold = options(rng, 10)
    return row | {"question_type": "multiple-choice", "options": texts, "answer": LETTERS[gold]}, texts, gold


def videomathqa(count: int) -> Maker:
    def make(rng: random.Random, n: int) -> Made:
        texts, gold = options(rng, count)
        question = n if count > 2 else n // 4
        row = {"videoID": f"v{question}", "question_id": f"{question}", "category": "Chart", "question": "What?"}
        row |= {"length": ("short", "medium", "long")[question % 3]}
        return row | {"options": lettered(texts), "answer": LETTERS[gold]}, texts, gold

    return make


NUMERIC = ("object_counting", "object_abs_distance", "object_size_estimation", "room_size_estimation")
DIRECTIONS = tuple(f"object_rel_direction_{level}" for level in ("easy", "medium", "hard"))


def vsi_bench(rng: random.Random, n: int) -> Made:
    kind = (*NUMERIC, *DIRECTIONS, "object_rel_distance", "route_planning", "obj_appearance_order")[n % 10]
    row = {"id": n, "dataset": "scannet", "scene_name": f"s{n}", "question_type": kind, "question": "What?"}
    if kind in NUMERIC:
        number = str(rng.randrange(1, 200) / 10)
        return row | {"options": None, "ground_truth": number}, None, number
    texts, gold = options(rng, rng.choice([2, 3, 4]))
    return row | {"options": lettered(texts), "ground_truth": LETTERS[gold]}, texts, gold


def span(rng: random.Random) -> list[float]:
    start = rng.randrange(0, 300) / 10
    return [start, start + rng.randrange(10, 300) / 10]


def charades(rng: random.Random, n: int) -> Made:
    gold = span(rng)
    return {"video": f"{n}.mp4", "caption": "a person runs", "timestamp": gold}, None, gold


def activitynet(rng: random.Random, n: int) -> Made:
    gold = span(rng)
    return {"video_path": f"{n}.mp4", "query": "a person runs", "span": [gold]}, None, gold


def ovo_bench(rng: random.Random, n: int) -> Made:
    task = ("EPM", "ASI", "OCR", "STU", "REC", "SSR", "CRR")[n % 7]
    row = {"id": n, "task": task, "video": f"{n}.mp4", "realtime": 5}
    if task in ("EPM", "ASI", "OCR", "STU"):
        texts, gold = options(rng, 4)
        return row | {"question": "What?", "options": texts, "gt": gold}, texts, gold
    count, right = rng.randrange(20), rng.randrange(2)
    point = {"realtime": 5, "count": count, "type": right, "step": "cut"}
    said = str(count) if task == "REC" else ("No", "Yes")[right]
    return row | {"activity": "jump", "question": "What next?", "test_info": [point]}, None, said


def motionbench(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, rng.choice([2, 3, 4]))
    row = {"key": f"{n}", "video_path": f"{n}.mp4", "question_type": rng.choice(["Action Order", "Camera Motion"])}
    asked = {"uid": f"{n}", "question": "\n".join(["What?", *lettered(texts)]), "answer": LETTERS[gold]}
    return row | {"qa": [asked]}, texts, gold


def egoschema(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 5)
    return {"video_idx": f"{n}", "question": "What?", "option": lettered(texts), "answer": f"{gold}"}, texts, gold


def next_qa(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 5)
    row = {"video": n, "qid": 0, "question": "what happens", "answer": gold, "type": rng.choice(["CW", "TN", "DL"])}
    return row | {"map": {}} | {f"a{at}": text for at, text in enumerate(texts)}, texts, gold


def perception_test(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 3)
    row = {"video_name": f"{n}", "question_id": f"{n}", "question": "What?", "cuts": {}, "tag": "motion"}
    row |= {"area": rng.choice(["memory", "physics"]), "reasoning": "descriptive"}
    return row | {"options": texts, "answer_id": f"{gold}"}, texts, gold


def minerva(rng: random.Random, n: int) -> Made:
    texts, gold = options(rng, 5)
    row = {"key": f"{n}", "video_id": f"{n}", "question": "What?", "question_type": "Counting", "split": "short"}
    return row | {f"answer_choice_{at}": text for at, text in enumerate(texts)} | {"answer_id": gold}, texts, gold
