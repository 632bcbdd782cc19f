"""An update on a long video, with everything that makes it fit, against transformers' own model."""

import pytest
from benchmarks.long_video import compared, write

pytestmark = [pytest.mark.model, pytest.mark.slow]


def test_an_update_on_8k_tokens_is_that_of_transformers(tmp_path):
    """At the width of Qwen3-VL-2B, in float32: vision, MLPs and log-probs in chunks, inputs of layers on the host."""
    found = compared(write(tmp_path / "model"), 8192)
    assert found["tokens"] >= 8192
    assert found["logprobs"] < 1e-4
    assert found["loss"] < 1e-5 and found["gradients"] < 1e-5 and found["largest_gradient"] < 1e-4
