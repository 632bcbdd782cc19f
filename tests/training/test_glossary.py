"""What runs of several kinds of stages write is in the glossary, name by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from easyvideor1.records.glossary import meaning_of

from .runs import World, json_lines, train
from .test_from_rollouts import EVEN

pytestmark = pytest.mark.model


def stage(name: str, **options: Any) -> dict[str, Any]:
    shape = {"steps": 1, "prompts_per_step": 2, "group_size": 3, "save_every": 50, "optimizer": {"lr": 1e-3}}
    return {"name": name, **shape, **options}


SFT = stage("sft", trajectories="offline", advantage="ones", objective="sft")
GRPO = stage("grpo", kl="k3", objective={"name": "ppo_clip", "clip_dual": 3.0}, mini_batches=2, correction="tis")
PPO = stage("ppo", steps=2, advantage="gae", critic={"lr": 1e-3, "warmup_steps": 1, "value_clip": 0.5})
HYBRID = stage("hybrid", hybrid={"policy": "replace-last"}, off_policy="luffy")
DPO = stage(
    "dpo",
    trajectories="rollouts",
    objective={"name": "dpo", "beta": 0.5},
    advantage="reward",
    aggregation="sequence",
    rollouts={"stages": ["grpo"], "pairs": [{"builder": "own_even:pairs", "per_prompt": 2}]},
)
ADAPTIVE = stage(
    "adaptive",
    steps=2,
    kl={"estimator": "k2", "coef": 0.1, "control": "adaptive", "target": 0.1},
    selection={"generation_rounds": 2, "filter_low": 0.0, "filter_high": 1.0},
)


def unknown(run: Path) -> dict[str, str]:
    """Names without an entry, each with its file."""
    found = {}
    for kind in ("metrics.jsonl", "timings.jsonl"):
        for file in sorted(run.glob(f"stages/*/{kind}")):
            names = {name for row in json_lines(file) for name in row} - {"step"}
            found |= {name: file.parent.name for name in names if meaning_of(name, kind) is None}
    return found


def test_stages_one_after_the_other(world: World, place: Path) -> None:
    (place / "own_even.py").write_text(EVEN)
    changes: dict[str, Any] = {"rewards__custom": {"*": "own_even:even"}, "evaluation__every": 1}
    train(world.config(name="several", stages=[SFT, GRPO, PPO, HYBRID, DPO, ADAPTIVE], **changes))
    run = place / "runs" / "several"
    written = {name for file in run.glob("stages/*/metrics.jsonl") for row in json_lines(file) for name in row}
    expected = {"loss", "policy/kl", "critic/loss", "hybrid/groups", "offline/accuracy", "policy/pair_margin"}
    assert expected | {"evaluation/greedy", "mismatch/weight", "policy/kl_coef"} <= written
    assert unknown(run) == {}


def test_a_stage_that_generates_ahead(world: World, place: Path) -> None:
    ahead = {"engine": "local", "workers": 1, "max_staleness": 1, "over_sample_rate": 0.5, "max_new_tokens": 12}
    train(world.short(name="ahead", rollout=ahead, stages=[stage("rl", steps=3, correction="tis")]))
    run = place / "runs" / "ahead"
    assert any("staleness/mean" in row for row in json_lines(run / "stages/01-rl/metrics.jsonl"))
    assert any("engine/sync_bytes" in row for row in json_lines(run / "stages/01-rl/timings.jsonl"))
    assert unknown(run) == {}
