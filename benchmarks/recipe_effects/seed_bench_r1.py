"""SEED-Bench-R1: GRPO against supervised learning of equal steps, on the second level."""

import json
from pathlib import Path

from benchmarks.recipe_effect import Effect, Sides, Trial


def measure(trial: Trial) -> Sides:
    """Greedy accuracy in the new environment."""
    steps = trial.steps(small=16, full=40)
    sft = trial.run("seed_bench_r1/sft", [f"stages.sft.steps={steps}"], label="sft")
    grpo = trial.run("seed_bench_r1", [f"stages.rl.steps={steps}"])
    return Sides(baseline=level_accuracies(sft, "01-sft")[1], recipe=level_accuracies(grpo, "01-rl")[1])


def level_accuracies(run: Path, evaluation: str) -> list[float]:
    """Accuracy on the three levels, from the one that is nearest to training."""
    found = json.loads((run / "evaluations" / f"{evaluation}.json").read_text(encoding="utf-8"))["sources"]
    return [found[name]["greedy"]["mean"] for name in sorted(found)]


EFFECT = Effect(
    recipe="seed_bench_r1",
    measures="accuracy in a new environment, GRPO minus SFT",
    measure=measure,
    claimed=False,  # one seed: both sides stay at chance, 25%
    equal="steps and updates; not responses: GRPO generates 128 a step, SFT reads 16 traces",
    tests=("tests/recipes/test_seed_bench_r1.py", "tests/data/test_transforms.py"),
)
