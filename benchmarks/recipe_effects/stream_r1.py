"""Stream-R1's parts: supervised learning weighted with the reward of a trace, against the same without weights."""

from benchmarks.recipe_effect import Effect, Sides, Trial, greedy_accuracy


def measure(trial: Trial) -> Sides:
    """Greedy test accuracy."""
    steps = f"stages.weighted.steps={trial.steps(small=30, full=80)}"
    plain = [
        "stages.weighted.advantage=ones",
        'stages.weighted.objective={"name":"sft"}',
        "stages.weighted.weighter=none",
    ]
    alone = trial.run("stream_r1", [steps, *plain], label="plain")
    weighted = trial.run("stream_r1", [steps])
    return Sides(baseline=greedy_accuracy(alone, "01-weighted"), recipe=greedy_accuracy(weighted, "01-weighted"))


EFFECT = Effect(
    recipe="stream_r1",
    measures="test accuracy, SFT weighted with rewards minus plain SFT",
    measure=measure,
    claimed=False,  # 59% against 33% with one seed; no interval yet
    equal="steps, traces and updates",
    tests=("tests/recipes/test_stream_r1.py", "tests/algorithms/test_weighters.py"),
)
