"""What a run refuses before anything is built: names, and engines that lack what a stage needs."""

from __future__ import annotations

import pytest

from easyvideor1.config import RunConfig
from easyvideor1.engines.local import LocalEngine
from easyvideor1.training.names import resolve_names


class Cutting(LocalEngine):
    """Knows no log-probs of what it draws with ``top_p``."""

    unknown_logprobs = ("top_p",)


CORRECTED = {"correction": "tis"}
ENGINES_RATIOS = {"objective": {"name": "ppo_clip", "old_logprobs": "engine"}}


def faults(stage, *, engine=f"{__name__}:Cutting", **rollout):
    config = RunConfig(
        rollout={"engine": engine, **rollout}, stages=[{"name": "rl", **stage}], data={"train": [{"path": "rows.json"}]}
    )
    return [str(fault) for key, fault in resolve_names(config) if fault is not None and key == "stages.rl.rollout"]


@pytest.mark.parametrize(
    ("stage", "needs", "remedy"),
    [
        (CORRECTED, "correction: tis", "correction: none"),
        (ENGINES_RATIOS, "objective.old_logprobs: engine", "objective.old_logprobs: current"),
    ],
)
def test_a_stage_that_needs_logprobs_which_the_engine_has_not_is_refused(stage, needs, remedy):
    (fault,) = faults(stage, top_p=0.9)
    assert fault.startswith(f"stages.rl.{needs} needs the engine's log-probs")
    assert "drawn with top_p=0.9: leave rollout.top_p out" in fault and fault.endswith(f"or set {remedy}")


def test_other_stages_and_engines_are_not(tmp_path):
    assert not faults({}, top_p=0.9), "nothing reads them"
    assert not faults(CORRECTED), "nothing is cut"
    assert not faults(CORRECTED, top_k=5), "the engine knows them"
    assert not faults(CORRECTED, engine="local", top_p=0.9)
