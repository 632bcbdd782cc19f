"""SOLE-R1: what an agent's critic perceives, and what is true.

The effect needs no model: it is the gap under a critic with errors. ``python -m benchmarks.recipe_effects.sole_r1
CHECKPOINT CONFIG`` prints the table of three critics: true progress, errors of 20 percent, and a trained model, which
takes about two minutes of one core for each of its agents.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from benchmarks.recipe_effect import Effect, Sides, Trial
from easyvideor1.recipes.sole_r1 import Critic, Outcome, model_critic, noisy_critic, train_agent, true_critic
from easyvideor1.serving.score_stream import StreamScorer

#: Agents of one seed of the effect, and of each critic of the table that is no model.
AGENTS = 20
#: Perceived progress from which on an agent seems to have succeeded; one move less is 0.9.
SEEMS_DONE = 0.95


def measure(trial: Trial) -> Sides:
    """Share of agents that seem to have succeeded, by the critic that trained them, and of those that have."""
    outcomes = [with_noise(AGENTS * trial.seed + number) for number in range(AGENTS)]
    perceived, true = shares(outcomes)
    return Sides(baseline=true, recipe=perceived)


def with_noise(seed: int) -> Outcome:
    """An agent whose critic has errors of 20 percent."""
    critic = noisy_critic(np.random.default_rng([seed, 1]))
    return train_agent(lambda: critic, np.random.default_rng(seed))


def with_critic(begin: Callable[[], Critic], seed: int) -> Outcome:
    """An agent with another critic."""
    return train_agent(begin, np.random.default_rng(seed))


def shares(outcomes: Iterable[Outcome]) -> tuple[float, float]:
    """Perceived and true success."""
    found = list(outcomes)
    return float(np.mean([each.perceived >= SEEMS_DONE for each in found])), float(np.mean([x.success for x in found]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("config", help="config.yaml of its run")
    parser.add_argument("--agents", type=int, default=3, help="agents that the model rewards")
    chosen = parser.parse_args()
    print("| reward of the agent | agents | perceived success | true success | perceived progress | true progress |")
    print("|---|---|---|---|---|---|")
    with StreamScorer.open(chosen.checkpoint, chosen.config) as scorer:
        model = model_critic(scorer)
        runs: dict[str, tuple[Callable[[int], Outcome], int]] = {
            "true progress": (partial(with_critic, true_critic), AGENTS),
            "progress with errors of 20%": (with_noise, AGENTS),
            "trained critic": (partial(with_critic, model), chosen.agents),
        }
        for name, (run, count) in runs.items():
            found = [run(seed) for seed in range(count)]
            seen, done = float(np.mean([x.perceived for x in found])), float(np.mean([x.true for x in found]))
            perceived, true = shares(found)
            print(f"| {name} | {count} | {perceived:.2f} | {true:.2f} | {seen:.2f} | {done:.2f} |", flush=True)


EFFECT = Effect(
    recipe="sole_r1",
    measures="success of agents as their critic, with errors of 20 percent, perceives it, over true success",
    measure=measure,
    tests=(
        "tests/recipes/test_sole_r1.py",
        "tests/serving/test_score_stream.py",
        "tests/rollout/test_recursive.py",
        "tests/video/test_effects.py",
    ),
)

if __name__ == "__main__":
    main()
