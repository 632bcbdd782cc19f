"""What EasyR1 and EasyVideoR1 say of scale: ranks, their engines, and how much a device computes at a time."""

from __future__ import annotations

from typing import Any

from easyvideor1.config.legacy_file import LegacyFile

_ACTOR = "worker.actor"
_REFERENCE = "worker.ref"
_ENGINE = "worker.rollout"


#: What an engine has of the GPU of a rank in the books of Ray, which bounds no memory.
_SHARE = 0.4
#: GPUs of an engine by default; one GPU alone had to say 1.
_TENSOR_PARALLEL = 2


def ranks(old: LegacyFile) -> int:
    """GPUs of all machines, each of which had a rank of the trainer and a part of an engine."""
    nodes, gpus = _machines(old)
    return nodes * gpus


def _machines(old: LegacyFile) -> tuple[int, int]:
    return max(old.integer("trainer.nnodes", 1), 1), max(old.integer("trainer.n_gpus_per_node", 8), 1)


def cluster(old: LegacyFile) -> dict[str, Any]:
    """The section ``cluster``. Ray placed everything, and does again."""
    nodes, gpus = _machines(old)
    many = nodes * gpus
    out: dict[str, Any] = {"nodes": nodes, "gpus_per_node": gpus} | ({"placement": "ray"} if many > 1 else {})
    key = f"{_ACTOR}.fsdp.fsdp_size"
    size = old.integer(key, -1)
    if 1 < size < many and many % size == 0:
        out["shard_size"] = size
    elif old.has(key) and 0 < size < many:
        old.drop(key, f"it does not divide the {many} GPUs into groups of two or more: cluster.shard_size")
    key = f"{_ACTOR}.ulysses_size"
    together = old.integer(key, 1)
    if together > 1 and many % together == 0:
        out["sequence_parallel"] = together
    elif together != 1:
        old.drop(key, f"it does not divide the {many} GPUs: cluster.sequence_parallel")
    return out


def offload(old: LegacyFile) -> list[str]:
    """``model.offload``: what was kept on the host, as a whole or between its uses. A reference is as the policy is."""
    out = ["optimizer"] if old.flag(f"{_ACTOR}.offload.offload_optimizer", False) else []
    parameters = _parameters_on_host(old, _ACTOR)
    if parameters and ranks(old) > 1:
        out.append("parameters")
    elif parameters:
        for key in _PARAMETERS:
            if old.flag(f"{_ACTOR}.{key}", False):
                old.drop(f"{_ACTOR}.{key}", "parameters are offloaded where ranks share them: cluster.ranks")
    if not old.flag("algorithm.disable_kl", False) and _parameters_on_host(old, _REFERENCE) != ("parameters" in out):
        for key in _PARAMETERS:
            if old.has(f"{_REFERENCE}.{key}"):
                old.drop(f"{_REFERENCE}.{key}", "a reference is kept where the policy is: model.offload")
    return out


#: FSDP's offload, and that of one phase to the next.
_PARAMETERS = ("fsdp.enable_cpu_offload", "offload.offload_params")


def _parameters_on_host(old: LegacyFile, model: str) -> bool:
    always, between = (f"{model}.{key}" for key in _PARAMETERS)
    if old.flag(always, False) and old.flag(between, False):
        old.idle(between, "enable_cpu_offload keeps parameters on the host all the time")
    return old.flag(always, False) or old.flag(between, False)


def longest(old: LegacyFile) -> int:
    """Tokens of a prompt and its response, padded: what their limits of a batch were multiples of."""
    return old.integer("data.max_prompt_length", 512) + old.integer("data.max_response_length", 512)


def engine(old: LegacyFile) -> dict[str, Any]:
    """Keys of ``rollout`` that say which engine generates, on which devices and with how much memory."""
    key, many = f"{_ENGINE}.tensor_parallel_size", ranks(old)
    default = min(_TENSOR_PARALLEL, many)
    if old.integer(key, default) > 1:
        old.drop(
            key,
            ("" if old.has(key) else f"the default, {default}, held. ")
            + "Ray gives an engine one GPU: each GPU has one of its own. For a model that no GPU can hold set "
            "rollout.placement: process, rollout.workers: 1 and rollout.tensor_parallel_size",
        )
    chunked = old.flag(f"{_ENGINE}.enable_chunked_prefill", False)
    limit = old.integer(f"{_ENGINE}.max_model_len", longest(old))
    if limit < longest(old):
        reason = f"raised to {longest(old)}: a prompt and a response may be so long together"
        old.drop(f"{_ENGINE}.max_model_len", reason)
        limit = longest(old)
    step = old.integer(f"{_ENGINE}.max_num_batched_tokens", 8192)
    if step < limit and not chunked:
        if old.has(f"{_ENGINE}.max_num_batched_tokens"):
            reason = f"raised to {limit}: without chunked prefill a prompt goes into one step"
            old.drop(f"{_ENGINE}.max_num_batched_tokens", reason)
        step = limit
    return {
        "engine": "vllm",
        "workers": many,
        **({"placement": "ray", "gpus_per_worker": _SHARE} if many > 1 else {}),
        "vllm": {
            "gpu_memory_utilization": old.number(f"{_ENGINE}.gpu_memory_utilization", 0.6),
            "max_model_len": limit,
            "max_num_batched_tokens": step,
            "chunked_prefill": chunked,
            "enforce_eager": old.flag(f"{_ENGINE}.enforce_eager", False),
        },
    }


def micro_batches(old: LegacyFile) -> dict[str, Any]:
    """Tokens of a pass: a number of padded sequences, unless ``max_token_len_per_gpu`` counts tokens."""
    keys = {
        "micro_batch_tokens": (f"{_ACTOR}.micro_batch_size_per_device_for_update", 4),
        "logprob_micro_batch_tokens": (f"{_ACTOR}.micro_batch_size_per_device_for_experience", 16),
    }
    if old.has(tokens := f"{_ACTOR}.max_token_len_per_gpu"):
        for key, _ in keys.values():
            if old.has(key):
                old.idle(key, "max_token_len_per_gpu went before it, and is stages.0.micro_batch_tokens")
        return {"micro_batch_tokens": old.integer(tokens, 0)}
    return {name: old.integer(key, default) * longest(old) for name, (key, default) in keys.items()}
