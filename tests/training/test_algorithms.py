"""Every algorithm that can be named in a stage makes a real step, and stages with a state resume bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.algorithms.advantages import ADVANTAGES
from easyvideor1.algorithms.corrections import CORRECTIONS
from easyvideor1.algorithms.objectives import OBJECTIVES
from easyvideor1.algorithms.weighters import WEIGHTERS
from easyvideor1.components import Components
from easyvideor1.data import SampleStream
from easyvideor1.policy.policy import Policy
from easyvideor1.spans import SpanRecorder
from easyvideor1.training.loop import train as train_stage
from easyvideor1.training.run_directory.run_log import StageLog
from easyvideor1.training.stages import build_stage
from easyvideor1.training.timeline import Timeline
from easyvideor1.training.timings import Timings
from easyvideor1.types import Completion, Sample, Score

from .runs import World, json_lines, lasting, train

pytestmark = pytest.mark.model

#: What an objective asks of the rest of its stage.
OF_SEQUENCES = {"aggregation": "sequence"}
SETTINGS: dict[str, dict[str, Any]] = {
    "gspo": OF_SEQUENCES,
    "gspo_token": OF_SEQUENCES,
    "gmpo": OF_SEQUENCES,
    "reg_grpo": OF_SEQUENCES,
    "dpo": OF_SEQUENCES,
    "luffy": {"hybrid": {}},
    "sft": {"advantage": "reward"},
    "pass_at_k": {"advantage": {"name": "pass_at_k", "k": 2, "threshold": 0.3}},
    "reward_weighted_sft": {"advantage": "reward"},
}

CASES: dict[str, dict[str, Any]] = {
    **{f"advantage {name}": {"advantage": name, **SETTINGS.get(name, {})} for name in ADVANTAGES.names()},
    **{f"objective {name}": {"objective": name, **SETTINGS.get(name, {})} for name in OBJECTIVES.names()},
    **{f"weighter {name}": {"weighter": name} for name in WEIGHTERS.names()},
    **{
        f"correction {name}": {"correction": {"name": name, **({"low": 0.0} if "mask" in name else {})}}
        for name in CORRECTIONS.names()
    },
    **{f"aggregation {name}": {"aggregation": name} for name in ("token", "sequence", "turn")},
    "aggregation fixed": {"aggregation": {"name": "fixed", "length": 80}},
    **{f"kl {kind}": {"kl": {"estimator": kind, "coef": 0.1}} for kind in ("k2", "k3", "abs", "full")},
    **{
        f"kl {kind} in reward": {"kl": {"estimator": kind, "coef": 0.1, "placement": "reward"}}
        for kind in ("k1", "full")
    },
    "kl adaptive": {"kl": {"estimator": "k2", "coef": 0.1, "control": "adaptive", "horizon": 50}},
    "reference ema": {"kl": {"estimator": "k3", "reference": "ema", "reference_decay": 0.5}},
    "reinforce_plus_plus and KL": {
        "advantage": "reinforce_plus_plus",
        "kl": {"estimator": "k1", "placement": "reward"},
    },
    "remax and length": {"advantage": "remax", "overlong": {"cache": 20}},
    **{f"off-policy {how}": {"off_policy": how, "hybrid": {}} for how in ("none", "importance", "luffy", "sft")},
    "off-policy none, engine": {"objective": {"old_logprobs": "engine"}, "hybrid": {}},
    "entropy": {"objective": {"entropy_coef": 0.01}},
    "old log-probs of the engine": {"objective": {"old_logprobs": "engine"}},
    "clipped advantages": {"advantage": {"clip": 0.5}, "objective": {"clip_dual": 3.0}},
    "overlong": {"overlong": {"filter": True, "cache": 20}, "selection": {"generation_rounds": 2}},
    "online filter": {"selection": {"filter_low": 0.0, "filter_high": 1.0}},
    "critic warm-up": {"advantage": "gae", "critic": {"warmup_steps": 1, "lr": 1e-3}, "steps": 2},
}


def stage(**options: Any) -> dict[str, Any]:
    return {
        "name": "rl",
        "steps": 1,
        "prompts_per_step": 2,
        "group_size": 3,
        "save_every": 50,
        "optimizer": {"lr": 1e-3},
        **options,
    }


@pytest.fixture(scope="module")
def components(world: World) -> Iterator[Components]:
    with Components.open(world.short(rewards__custom={}, model__conventions="transformers")) as opened:
        opened.__dict__["scorer"] = Vowels()
        yield opened


class Vowels:
    """The share of vowels: even an untrained model differs in it from response to response."""

    def score_group(self, sample: Sample, responses: Sequence[Completion]) -> list[Score]:
        texts = [response.text for response in responses]
        shares = [sum(letter in "aeiou" for letter in text) / max(len(text), 1) for text in texts]
        return [Score(share, 0.0, share) for share in shares]

    def score_groups(self, groups: Sequence[tuple[Sample, Sequence[Completion]]]) -> list[list[Score]]:
        return [self.score_group(sample, responses) for sample, responses in groups]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("case", CASES)
def test_it_makes_a_step(world: World, components: Components, tmp_path: Path, case: str) -> None:
    config = world.short(stages=[stage(**CASES[case])], rollout__max_new_tokens=24, model__conventions="transformers")
    components.config = config
    (options,) = config.stages
    (loaded,) = components.load_sources(config.data.train)
    policy = Policy.open(config.model)
    policy.begin(options)
    before = {name: tensor.clone() for name, tensor in policy.weights()}
    engine = components.open_engine(policy.model)
    train_stage(
        build_stage(
            options,
            config,
            components=components,
            policy=policy,
            engine=engine,
            stream=SampleStream([loaded.samples], [1.0], config.seed),
            first=0,
            record=StageLog(tmp_path),
            evaluate=lambda name, engine: {},
            on_step=lambda name, step, steps, metrics: None,
            save=lambda step: None,
            is_best=lambda step: False,
            timeline=Timeline(engine, SpanRecorder(), None, lambda step: Timings()),
        )
    )
    rows = json_lines(tmp_path / "metrics.jsonl")
    if case == "critic warm-up":
        assert "loss" not in rows[0] and "critic/loss" in rows[0] and rows[1]["critic/value"] != 0
    if case == "remax and length":
        # A share of vowels, less 1 for a response that runs into the limit, as those of this model do.
        assert rows[0]["reward/greedy"] < 0, "the baseline loses to length what the responses lose"
    if case == "overlong":
        assert rows[-1]["groups/used"] == 0 and rows[-1]["response/cut_at_limit"] == 1
        assert rows[-1]["groups/all"] == 4 and "loss" not in rows[-1], "another round, and still nothing to learn from"
        return
    assert math.isfinite(rows[-1]["loss"]) and rows[-1]["groups/used"] > 0
    changed = [name for name, tensor in policy.weights() if not tensor.equal(before[name])]
    assert rows[-1]["grad_norm"] > 0 and len(changed) > len(before) / 2


STATEFUL: dict[str, dict[str, Any]] = {
    "adaptive KL": {"kl": {"estimator": "k2", "coef": 0.1, "control": "adaptive", "horizon": 20, "target": 1e-4}},
    "EMA reference": {"kl": {"estimator": "k3", "coef": 0.1, "reference": "ema", "reference_decay": 0.5}},
    "critic": {"advantage": "gae", "critic": {"lr": 1e-3, "warmup_steps": 1}},
    "mini-batches and epochs": {"mini_batches": 2, "ppo_epochs": 2},
    "hybrid and refill": {
        "selection": {"generation_rounds": 2, "filter_high": 0.35},
        "hybrid": {"policy": "fraction", "fraction": 0.7},
        "off_policy": "luffy",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STATEFUL)
def test_it_resumes_bit_for_bit(world: World, place: Path, case: str) -> None:
    options = stage(**STATEFUL[case], steps=3, save_every=1, keep_checkpoints=3)
    config = world.short(stages=[options])
    train(config)
    run_dir = place / "runs/small"
    whole = lasting(run_dir)
    (directory,) = (run_dir / "stages").iterdir()
    last = directory / "checkpoints/step_000003"
    for step in (2, 3):
        checkpoint = directory / f"checkpoints/step_{step:06d}"
        (checkpoint / "state.json").write_text("{}")
    train(config)
    assert lasting(run_dir).keys() == whole.keys()
    assert [name for name, content in lasting(run_dir).items() if content != whole[name]] == []
    rows = json_lines(directory / "metrics.jsonl")
    if case == "adaptive KL":
        assert len({row["policy/kl_coef"] for row in rows}) == 3, "the weight moves"
    if case == "critic":
        assert (last / "critic.safetensors").is_file() and (last / "critic_optimizer.safetensors").is_file()
