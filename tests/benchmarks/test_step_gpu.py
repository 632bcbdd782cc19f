"""The benchmark at released shapes: what it builds, and in the slow tier its run on a processor."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.released_shapes import weightless_model, write_shape
from benchmarks.step_gpu import Shape

pytestmark = pytest.mark.model


@pytest.mark.parametrize(("name", "billions"), [("2b", 2.13), ("8b", 8.77)])
def test_shapes_have_the_size_of_the_released_models(tmp_path: Path, name: str, billions: float) -> None:
    model = weightless_model(write_shape(tmp_path, name))
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


@pytest.mark.slow
def test_all_figures_are_there(tmp_path: Path) -> None:
    shape = Shape("tiny", tmp_path, torch.device("cpu"), 300, 1)
    found = shape.measure(("separate", "shared"), one_layer=True, longest=0)
    assert found["logprob_speedup"] > 0 and found["update_speedup"] > 0 and found["attention_ms"]["parts"] > 0
    assert found["mean_logprob_error"] < 0.01 and found["max_logprob_error"] < 0.1, "bfloat16, in another order"
