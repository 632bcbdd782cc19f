"""What of the configuration becomes which argument of vLLM; the engine itself is in ``test_vllm.py``."""

import pytest
from pydantic import ValidationError

from easyvideor1.config.engines import VLLMConfig
from easyvideor1.engines.vllm_core import on_gpu


def test_what_is_null_is_left_to_vllm() -> None:
    assert on_gpu(VLLMConfig(), 4096) == {"enable_chunked_prefill": True, "enforce_eager": False}


def test_settings_arrive_under_the_names_of_vllm() -> None:
    settings = VLLMConfig(gpu_memory_utilization=0.6, max_num_batched_tokens=512, enforce_eager=True)
    assert on_gpu(settings, 4096) == {
        "enable_chunked_prefill": True,
        "enforce_eager": True,
        "gpu_memory_utilization": 0.6,
        "max_num_batched_tokens": 512,
    }


@pytest.mark.parametrize(("asked", "given"), [(None, 4096), (512, 4096), (8192, 8192)])
def test_a_step_holds_a_whole_prompt_where_it_may_not_be_cut(asked: int | None, given: int) -> None:
    found = on_gpu(VLLMConfig(chunked_prefill=False, max_num_batched_tokens=asked), 4096)
    assert (found["max_num_batched_tokens"], found["enable_chunked_prefill"]) == (given, False)


def test_a_step_that_is_too_short_for_a_prompt_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"max_num_batched_tokens \(512\) is below max_model_len \(4096\)"):
        VLLMConfig(chunked_prefill=False, max_num_batched_tokens=512, max_model_len=4096)
    VLLMConfig(max_num_batched_tokens=512, max_model_len=4096)
