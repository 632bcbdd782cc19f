"""The tasks of lmms-eval 0.7.3 that ask the same benchmarks: how they score a reply, and their numbers."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from benchmarks import lmms_eval_rows as rows
from easyvideor1.benchmarks.release import FILE

#: What goes to the aggregation of a task, and the score of the reply.
Theirs = tuple[Any, float]
#: Replies that both read: of a choice with its letter x and its words t, of a span from a to b, of a word or number x.
LETTER = ("{x}", "{x}.")
CHOICE = (*LETTER, "{x}. {t}", "The answer is {x}.", "The best answer is {x}", "The correct answer is {x}.")
SPAN = ("{a} - {b}", "{a} to {b} seconds", "From {a} to {b} seconds.", "The event happens in {a} - {b} seconds.")
WORD = ("{x}",)


def processed(name: str, key: str, right: Callable[[Any], float]) -> Callable[..., Theirs]:
    """Theirs for a question: what goes to the aggregation, and its score."""

    def score(module: Any, row: dict[str, Any], reply: str) -> Theirs:
        result = getattr(module, name)(row, [reply])[key]
        return result, float(right(result))

    return score


def matches(result: Any) -> bool:
    return bool(result["pred_answer"] == result["answer"])


def of_kind(kind: str, result: Any) -> bool:
    return bool(result["kind"] == kind)


def score_mvbench(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    result = module.mvbench_process_results(row, [reply])["mvbench_accuracy"]
    return {**result, "file": row[FILE]}, float(result["score"])


def score_tempcompass(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    kind = row[FILE].split("/")[0].replace("-", "_")
    result = getattr(module, f"tempcompass_process_results_{kind}")(row, [reply])["avg_accuracy"]
    return {**result, "kind": kind}, float(result["rating"])


def score_mmvu(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    right = module.evaluate_with_rule_based(row, reply)  # before its judge is asked
    return {"category": module.extract_category(row), "correct": int(right)}, float(right)


def score_video_mmmu(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    result = module.videommmu_process_results(row, [reply])["mmmu_acc"]
    return result, module.evaluate_videommmu([result])[1]["acc"]


def score_vsi_bench(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    result = module.vsibench_process_results(row, [reply])["vsibench_overall"]
    return result, float(result["accuracy"] if "accuracy" in result else result["MRA:.5:.95:.05"])


def score_charades(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    result = module.temporal_grounding_process_results_generation(row, [reply])["charades_sta_mIOU"]
    return result, module._temporal_grounding_compute_metrics([result])["mIOU"] / 100


def score_timelens(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    result = module.timelens_process_results(row, [reply])["timelens_mIOU"]
    return result, module._timelens_compute_metrics([result])["mIOU"] / 100


def score_ovo_bench(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    if "test_info" in row:
        result = module.ovo_forward_process_results(row, [reply])["forward_acc"]
        (scores,) = module.calculate_score_forward([deepcopy(result)])[1].values()
        return result, float(scores[0])
    result = module.ovo_back_real_process_results(row, [reply])["back_real_acc"]
    return result, float(module.calculate_score_backward_realtime([deepcopy(result)])[0][0]["score"])


def score_motionbench(module: Any, row: dict[str, Any], reply: str) -> Theirs:
    (asked,) = row["qa"]  # theirs are flat: a question a row
    result = module.motionbench_process_results({**row, **asked}, [reply])["motionbench_acc"]
    return result, float(result["score"])


def of(name: str, column: str = "", *values: Any, scale: float = 1.0) -> Callable[..., float]:
    """Their aggregation of the results with these values of a column, in percent."""

    def number(module: Any, results: list[Any]) -> float:
        return float(scale * getattr(module, name)([one for one in results if not column or one[column] in values]))

    return number


def mean_of(number: str, column: str, *values: Any) -> Callable[..., float]:
    """The plain mean of their aggregations, as the groups of their tasks make it."""
    return lambda module, results: fmean(of(number, column, value)(module, results) for value in values)


def mean(module: Any, results: list[Any]) -> float:
    return 100 * fmean(map(float, results))


def with_arguments(name: str, keep: Callable[[Any], bool] = bool, scale: float = 1.0) -> Callable[..., float]:
    return lambda module, results: scale * getattr(module, name)([one for one in results if keep(one)], None)


def ovo_number(*modes: str) -> Callable[..., float]:
    """The mean over modes of the means over tasks, of their scores."""

    def number(module: Any, results: list[Any]) -> float:
        forward = module.calculate_score_forward([one for one in results if "test_info" in one])[1]
        rest = module.calculate_score_backward_realtime([one for one in results if "test_info" not in one])[1]
        tasks = {**forward, **rest}
        means = [[fmean(tasks[task]) for task in tasks if module.get_task_type(task) == mode] for mode in modes]
        return 100 * fmean(map(fmean, means))

    return number


@dataclass(frozen=True)
class Case:
    """A benchmark of ours, one of its layouts, and the task of theirs."""

    name: str
    layout: str
    task: str
    make: rows.Maker
    theirs: Callable[..., Theirs]
    numbers: Mapping[str, Callable[..., float]]
    choice: tuple[str, ...] = CHOICE
    other: tuple[str, ...] = WORD


DURATIONS = ("short", "medium", "long")
TVG = {"R@1 IoU 0.3": "iou3", "R@1 IoU 0.5": "iou5", "R@1 IoU 0.7": "iou7", "mIoU": "miou"}
DEV = ("anomaly_reco", "count", "ego", "needle", "order", "plotQA", "topic_reasoning")
TEST = ("anomaly_reco", "count", "ego", "needleQA", "order", "plotQA", "sportsQA", "topic_reasoning", "tutorialQA")
KINDS = {"multi-choice": "multi_choice", "yes_no": "yes_no", "caption_matching": "caption_matching"}
MLVU = processed("mlvu_process_results", "mlvu_percetion_score", matches)
MATH = processed("videomathqa_process_results", "videomathqa_perception_score", matches)
CASES = (
    Case(
        "video_mme",
        "official",
        "videomme",
        rows.video_mme,
        processed("videomme_process_results", "videomme_perception_score", lambda one: one["score"]),
        {"overall": of("videomme_aggregate_results")}
        | {each: of("videomme_aggregate_results", "duration", each) for each in DURATIONS},
    ),
    Case(
        "video_mme_v2",
        "official",
        "videomme_v2",
        rows.video_mme_v2,
        processed("videomme_v2_process_results", "videomme_v2_overall_score", lambda one: one["score"]),
        {"group score": of("videomme_v2_aggregate_overall_score"), "accuracy": of("videomme_v2_aggregate_overall_acc")}
        | {each: of(f"videomme_v2_aggregate_{each}_score") for each in ("relevance", "logic")},
    ),
    Case(
        "mvbench",
        "branch video",
        "mvbench",
        rows.mvbench,
        score_mvbench,
        {
            "accuracy": of("mvbench_aggregate_results"),
            "mean of tasks": mean_of(
                "mvbench_aggregate_results",
                "file",
                *(f"json/{task}.json" for task in ("action_sequence", "moving_count", "object_shuffle")),
            ),
        },
    ),
    Case(
        "tempcompass",
        "hub",
        "tempcompass",
        rows.tempcompass,
        score_tempcompass,
        {ours: with_arguments("tempcompass_aggregate_rating", partial(of_kind, kind)) for ours, kind in KINDS.items()},
        choice=LETTER,
    ),
    Case(
        "lvbench",
        "hub",
        "lvbench",
        rows.lvbench,
        processed("lvbench_process_results", "lvbench_score", float),
        {"accuracy": mean},
    ),
    Case(
        "longvideobench",
        "hub",
        "longvideobench",
        rows.longvideobench,
        processed("longvideobench_process_results", "lvb_acc", lambda one: one["answer"] == one["parsed_pred"]),
        {"accuracy": of("longvideobench_aggregate_results", scale=100)}
        | {
            f"{s} s": of("longvideobench_aggregate_results", "duration_group", s, scale=100)
            for s in (15, 60, 600, 3600)
        },
    ),
    Case("mlvu_dev", "hub", "mlvu", rows.mlvu(*DEV), MLVU, {"M-Avg": of("mlvu_aggregate_results_dev")}),
    Case("mlvu_test", "hub", "mlvu", rows.mlvu(*TEST), MLVU, {"M-Avg": of("mlvu_aggregate_results_test")}),
    Case(
        "video_holmes",
        "official",
        "video_holmes",
        rows.video_holmes,
        processed("video_holmes_process_results", "video_holmes_accuracy", lambda one: one["score"]),
        {"overall": of("video_holmes_aggregate_accuracy")}
        | {each: of(f"video_holmes_aggregate_{each}") for each in ("SR", "IMC", "TA")},
    ),
    Case("mmvu", "official", "mmvu", rows.mmvu, score_mmvu, {"overall": of("mmvu_aggregate_results_val")}),
    Case(
        "video_mmmu",
        "hub",
        "videommmu",
        rows.video_mmmu,
        score_video_mmmu,
        {"overall": of("videommmu_aggregate_results", scale=100)},
        other=("{x}", "The answer is {x}"),
    ),
    Case(
        "videomathqa_mcq",
        "official",
        "videomathqa",
        rows.videomathqa(5),
        MATH,
        {"overall": of("videomathqa_mcq_aggregate_results")}
        | {each: of("videomathqa_mcq_aggregate_results", "duration", each) for each in DURATIONS},
    ),
    Case(
        "videomathqa_mbin",
        "official",
        "videomathqa",
        rows.videomathqa(2),
        MATH,
        {"overall": of("videomathqa_multi_binary_aggregate_results")}
        | {each: of("videomathqa_multi_binary_aggregate_results", "duration", each) for each in DURATIONS},
    ),
    Case(
        "vsi_bench",
        "official",
        "vsibench",
        rows.vsi_bench,
        score_vsi_bench,
        {"overall": of("vsibench_aggregate_overall", scale=100)},
        choice=LETTER,
    ),
    Case(
        "charades_sta",
        "hub",
        "charades_sta",
        rows.charades,
        score_charades,
        {name: with_arguments(f"temporal_grounding_aggregate_{short}") for name, short in TVG.items()},
        other=SPAN,
    ),
    Case(
        "activitynet_tvg",
        "hub",
        "timelens",
        rows.activitynet,
        score_timelens,
        {name: with_arguments(f"timelens_aggregate_{short}") for name, short in TVG.items()},
        other=SPAN,
    ),
    Case(
        "ovo_bench",
        "cut",
        "ovobench",
        rows.ovo_bench,
        score_ovo_bench,
        {"total": ovo_number("backward", "realtime", "forward")}
        | {mode: ovo_number(mode) for mode in ("backward", "realtime", "forward")},
    ),
    Case(
        "motionbench",
        "authors",
        "motionbench",
        rows.motionbench,
        score_motionbench,
        {"accuracy": of("motionbench_aggregate_acc", scale=100)},
    ),
    Case(
        "egoschema",
        "hub",
        "egoschema",
        rows.egoschema,
        processed("egoschema_process_results_generation", "score", lambda one: str(one["pred"]) == one["ground_truth"]),
        {"accuracy": with_arguments("egoschema_aggregate_score", scale=100)},
    ),
    Case(
        "next_qa",
        "hub",
        "nextqa",
        rows.next_qa,
        processed("nextqa_mc_process_results", "exact_match", float),
        {"accuracy": mean},
    ),
    Case(
        "perception_test",
        "hub",
        "perceptiontest.val",
        rows.perception_test,
        processed("perceptiontest_val_process_results_mc", "accuracy", lambda one: one["correct"]),
        {"accuracy": with_arguments("perceptiontest_val_aggregate_accuracy", scale=100)},
    ),
    Case(
        "minerva",
        "official",
        "minerva",
        rows.minerva,
        processed("minerva_process_results", "minerva_acc", lambda one: one["score"]),
        {"overall": of("minerva_aggregate_results")},
    ),
)
