"""The sizes of a model, measured by running its own code on tensors without memory.

Layers are of a few kinds, so one or two of each are run and the rest is counted. A pass is run on two short and on two
long rows: memory of fused attention grows with the length, but the worst moment is another one where rows are long.
That of eager attention grows with the square: a parabola through three lengths has both.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from easyvideor1.attention.functions import takes_layout
from easyvideor1.attention.layout import Layout
from easyvideor1.config import ModelConfig
from easyvideor1.families.checkpoint import read_config
from easyvideor1.families.family import Embeddings, Family, computing, configured_model
from easyvideor1.families.vision_tower import prepare_tower
from easyvideor1.packing.balance import model_costs, products_per_token
from easyvideor1.packing.logprobs import chunk_tokens, hidden_logprobs
from easyvideor1.policy.memory_savings import frozen_products, prepare_training
from easyvideor1.policy.sharding import sharded_modules
from easyvideor1.policy.sizing.curves import Curve, Gathered, HeadMemory, Highest, ModelSizes, PassMemory, SharedSizes
from easyvideor1.policy.sizing.meter import Meter, without_memory
from easyvideor1.policy.token_chunks import tokenwise_modules
from easyvideor1.types import ConfigError

#: Lengths of short and of long rows; the former alone where memory grows with the square, or layers loop over a row.
_LENGTHS = ((256, 1024), (1 << 16, 1 << 17))
_EAGER_LENGTHS = ((256, 512, 1024),)
#: The same of rows whose MLPs run in chunks, in chunks.
_CHUNKS = ((4, 8), (64, 128))
_GROUPS = ("vision", "merger", "language")
#: What blocks of a vision tower are given beside hidden states.
_BLOCK_ARGUMENTS = ("cu_seqlens", "max_seqlen", "position_embeddings")


def measure_model(family: Family, config: ModelConfig, checkpoint: Path) -> ModelSizes:
    """The sizes of a checkpoint's model as ``config`` trains it.

    ``config.json`` is all that is read. Frozen weights are taken to be exact in the computing type if the checkpoint is
    stored in that type.

    Raises:
        ConfigError: the family keeps its layers elsewhere than transformers' Qwen models, or cannot be run this way.
    """
    model = _opened(family, config, checkpoint)
    _check_layers(family, model)
    text = model.config.get_text_config()
    costs = model_costs(family, model)
    groups = _by_group(family, model)
    trained = [p for p in model.parameters() if p.requires_grad]
    numbers = sum(p.numel() for p in model.parameters())
    tower_trained = any(p.requires_grad for name in ("vision", "merger") for p in groups[name])
    every = {name: _bytes(groups[name], trained=True) for name in _GROUPS}
    frozen = {name: _bytes(groups[name], trained=False) for name in _GROUPS}
    largest = max((p.numel() * 4 for p in trained), default=0)
    compute = getattr(torch, config.dtype).itemsize
    deepstack = len(getattr(model.config.vision_config, "deepstack_visual_indexes", None) or ())
    geometry = family.geometry
    shared = _shared(family, model)
    try:
        with without_memory():
            model.to_empty(device="cpu")
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
            short, language = _language(family, model)
            vision = _vision(family, model)
            head = _head(family, model)
    except RuntimeError as error:  # of torch, as where an operation needs numbers that are not there
        what = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        raise _unpredictable(family, f"its layers do not run on tensors without memory ({what})") from error
    return ModelSizes(
        trained=every,
        frozen=frozen,
        trained_values=sum(p.numel() for p in trained),
        largest=largest,
        largest_file=max(p.numel() * 4 for p in model.parameters()),
        all_values=numbers,
        language=language,
        short_rows=short,
        vision=vision,
        head=head,
        key_values=_key_values(text) * compute,
        pixels=3 * geometry.temporal_patch_size * geometry.patch_size**2 * 4,
        features=(1 + deepstack) * int(text.hidden_size) * compute,
        hidden=int(text.hidden_size) * compute,
        vocabulary=int(text.vocab_size),
        compute_bytes=compute,
        tower_trained=tower_trained,
        merge=geometry.merge_size**2,
        costs=costs,
        shared=shared,
        vision_chunk=config.vision_chunk * geometry.merge_size**2,
        mlp_chunk=config.mlp_chunk,
        layer_trained=_largest_layer(model),
        computed_again=products_per_token(tokenwise_modules(family, model), text) if config.mlp_chunk else 0.0,
    )


def _check_layers(family: Family, model: Any) -> None:
    """Whether layers and tower are where they are run here, and are called as they are called here.

    Raises:
        ConfigError: they are not.
    """
    inner = getattr(model, "model", None)
    for name, layers in (("language_model", "layers"), ("visual", "blocks")):
        found = getattr(getattr(inner, name, None), layers, None)
        if not isinstance(found, torch.nn.ModuleList) or not len(found):
            raise _unpredictable(family, f"it has no layers at model.{name}.{layers}")
    parameters = inspect.signature(inner.visual.blocks[0].forward).parameters  # type: ignore[union-attr]
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    if missing := [name for name in _BLOCK_ARGUMENTS if name not in parameters]:
        raise _unpredictable(family, f"the blocks of its vision tower do not take {', '.join(missing)}")


def _unpredictable(family: Family, why: str) -> ConfigError:
    return ConfigError(
        f"model.path: the memory of {type(family).__name__} cannot be predicted: {why}. Measure it with a step of "
        "training, and lower micro_batch_tokens if it does not fit"
    )


def _shared(family: Family, model: Any) -> SharedSizes:
    """What ranks would share; a module inside another one is gathered by itself."""
    modules, whole = sharded_modules(family, model)
    groups = family.groups(model)
    tower = {part for name in ("vision", "merger") for module in groups[name] for part in module.modules()}
    taken = {id(parameter) for parameter in whole}
    own: dict[torch.nn.Module, list[torch.nn.Parameter]] = {}
    for module in modules:
        own[module] = [parameter for parameter in module.parameters() if id(parameter) not in taken]
        taken |= {id(parameter) for parameter in own[module]}
    seen = [module for module in modules if not tower.isdisjoint(module.modules())]
    every = [parameter for parameters in own.values() for parameter in parameters]
    return SharedSizes(
        sum(p.numel() for p in every if p.requires_grad),
        _bytes(every, trained=False),
        _gathered({module: own[module] for module in modules if module not in seen}, model.compute_dtype),
        _gathered({module: own[module] for module in seen}, model.compute_dtype),
    )


def _gathered(own: Mapping[torch.nn.Module, Sequence[torch.nn.Parameter]], dtype: torch.dtype) -> Gathered:
    """A layer and the next one, beside what is gathered around them. Gradients are summed in float32."""
    around = layer = Gathered()
    for module, parameters in own.items():
        one = Gathered(
            sum(p.numel() * (p.element_size() if dtype == torch.float32 else dtype.itemsize) for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad) * (dtype.itemsize + 4),
        )
        if any(other is not module and other in own for other in module.modules()):
            around = Gathered(around.weights + one.weights, around.gradients + one.gradients)
        else:
            layer = max(layer, one, key=lambda each: each.weights)
    return Gathered(around.weights + 2 * layer.weights, around.gradients + layer.gradients)


def _opened(family: Family, config: ModelConfig, checkpoint: Path) -> Any:
    """The model on the meta device, as it is trained."""
    model = configured_model(family, config, checkpoint, meta=True)
    prepare_training(family, model, config)
    dtype = getattr(torch, config.dtype)
    if dtype != torch.float32 and _stored_type(checkpoint) == dtype:
        for parameters in frozen_products(model):
            for parameter in parameters:
                parameter.data = parameter.data.to(dtype)
    return model.train()


def _largest_layer(model: Any) -> int:
    """Trained bytes of the largest decoder layer."""
    layers = model.model.language_model.layers
    return max((sum(p.numel() * 4 for p in layer.parameters() if p.requires_grad) for layer in layers), default=0)


def _stored_type(checkpoint: Path) -> torch.dtype | None:
    written = read_config(checkpoint)
    name = written.get("dtype") or written.get("torch_dtype") or ""
    found = getattr(torch, str(name), None)
    return found if isinstance(found, torch.dtype) else None


def _by_group(family: Family, model: Any) -> dict[str, list[torch.nn.Parameter]]:
    """Parameters by module group; a tied one counts where it comes first."""
    seen: set[int] = set()
    found: dict[str, list[torch.nn.Parameter]] = {name: [] for name in _GROUPS}
    for name in _GROUPS:
        for module in family.groups(model)[name]:
            for parameter in module.parameters():
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    found[name].append(parameter)
    found["language"] += [p for p in model.parameters() if id(p) not in seen]
    return found


def _bytes(parameters: Sequence[torch.nn.Parameter], *, trained: bool) -> int:
    return sum(p.numel() * p.element_size() for p in parameters if p.requires_grad == trained)


def _key_values(text: Any) -> int:
    """Numbers that the cache holds of one token; layers of linear attention keep a state of fixed size instead."""
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * sum("linear" not in kind for kind in kinds) * int(text.num_key_value_heads) * int(head)


def _language(family: Family, model: Any) -> tuple[PassMemory, PassMemory]:
    """The decoder, from embeddings to last hidden states: rows up to ``mlp_chunk``, and longer ones."""
    decoder = model.model.language_model
    layers = decoder.layers
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or [""] * len(layers)
    period = _period(kinds[: len(layers)])
    dtype, width = model.compute_dtype, int(model.config.get_text_config().hidden_size)
    trains = any(p.requires_grad for p in model.parameters())

    def run(count: int, length: int) -> torch.Tensor:
        decoder.layers = layers[:count]
        tokens = _input(1, length, width, dtype=dtype, grad=torch.is_grad_enabled() and trains)
        mask: torch.Tensor | Layout | None = None
        if takes_layout(model):  # a prompt and what continues it
            mask = Layout(((0, length // 2, length), (length // 2, length, length)), length)
        elif family.shares_prefix:
            mask = torch.ones(1, 1, length, length, dtype=torch.bool)
        positions = torch.zeros(3, 1, length, dtype=torch.int64)
        return family.decode(model, Embeddings(tokens), positions, mask)

    chunked = list(tokenwise_modules(family, model)) if model.mlp_chunk else []
    lengths: Sequence[Sequence[int]] = _lengths(model)
    counts: Sequence[Sequence[int]] = _CHUNKS
    if any("linear" in kind for kind in kinds):
        lengths, counts = lengths[:1], counts[:1]
    try:
        for module in chunked:
            module.token_chunk = lengths[-1][-1]  # type: ignore[assignment]
        short = _passes(model, run, len(layers), period, lengths)
        if not chunked:
            return short, short
        for module in chunked:
            module.token_chunk = model.mlp_chunk
        longer = [[count * model.mlp_chunk for count in each] for each in counts]
        return short, _passes(model, run, len(layers), period, longer)
    finally:
        decoder.layers = layers


def _input(*shape: int, dtype: torch.dtype, grad: bool) -> torch.Tensor:
    """What layers start from. With a gradient it is the result of something, so that it goes when they let go of it."""
    found = torch.zeros(shape, dtype=dtype)
    return found + torch.zeros((), dtype=dtype, requires_grad=True) if grad else found


def _period(kinds: Sequence[str]) -> int:
    """Layers after which their kinds repeat."""
    return next(p for p in range(1, len(kinds) + 1) if all(kinds[i] == kinds[i % p] for i in range(len(kinds))))


def _vision(family: Family, model: Any) -> PassMemory:
    """The vision tower behind its patch embedding, and its mergers, by patches."""
    tower = model.model.visual
    prepare_tower(tower)  # an eager tower reads lengths where there are none
    shape = model.config.vision_config
    width = int(shape.embed_dim if hasattr(shape, "embed_dim") else shape.hidden_size)
    blocks, mergers = tower.blocks, family.groups(model)["merger"]
    trains = any(
        p.requires_grad for part in ("vision", "merger") for m in family.groups(model)[part] for p in m.parameters()
    )
    lists = [part for each in mergers for part in (each if isinstance(each, torch.nn.ModuleList) else [each])]

    def run(count: int, length: int) -> torch.Tensor:
        grad = torch.is_grad_enabled() and trains
        hidden = _input(length, width, dtype=model.compute_dtype, grad=grad)
        turned = torch.zeros(length, width // int(shape.num_heads))
        for block in blocks[:count]:
            hidden = block(hidden, cu_seqlens=_BOUNDS[length], max_seqlen=length, position_embeddings=(turned, turned))
        return torch.cat([merger(hidden) for merger in lists])

    return _passes(model, run, len(blocks), 1, _lengths(model), grad=trains)


#: One temporal step of so many patches. Real numbers: towers read them.
_BOUNDS = {
    length: torch.tensor([0, length], dtype=torch.int32)
    for lengths in (*_LENGTHS, *_EAGER_LENGTHS)
    for length in lengths
}


def _lengths(model: Any) -> Sequence[Sequence[int]]:
    return _EAGER_LENGTHS if model.config._attn_implementation == "eager" else _LENGTHS


def _passes(
    model: Any,
    run: Callable[[int, int], torch.Tensor],
    layers: int,
    period: int,
    lengths: Sequence[Sequence[int]],
    *,
    grad: bool = True,
) -> PassMemory:
    """Memory of ``layers`` layers, from runs of one and two periods of them at two or three lengths.

    Where there are long rows too, two periods are run on them: what is kept is a sum and grows alike, and of the rest
    the highest counts.
    """
    few = min(period, layers)
    more = min(2 * period, layers)
    short = {count: _curves(model, run, count, lengths[0], grad) for count in {few, more}}
    forward, backward, alone = ([short[more][index]] for index in (1, 2, 3))
    for long in lengths[1:]:
        found = _curves(model, run, more, long, grad)
        for own, index in ((forward, 1), (backward, 2), (alone, 3)):
            own.append(found[index])

    def each(index: int) -> Curve:
        """Of one layer more."""
        if more == few:
            return Curve()
        return (short[more][index] + short[few][index] * -1.0) * (1 / (more - few))

    def whole(curve: Curve, index: int) -> Curve:
        return curve + each(index) * (layers - more)

    peaks = Highest(tuple(whole(curve, 3) for curve in alone))
    if not grad:
        return PassMemory(alone=peaks)
    kept, host = (Highest((whole(short[more][index], index),)) for index in (0, 4))
    first = Highest((short[few][0],))
    return PassMemory(kept, Highest(tuple(forward)), Highest(tuple(backward)), peaks, first, host)


def _curves(
    model: Any, run: Callable[[int, int], torch.Tensor], count: int, lengths: Sequence[int], grad: bool
) -> list[Curve]:
    """The curves of ``_one`` through some lengths."""
    rows = [_one(model, run, count, length, grad) for length in lengths]
    return [Curve.through(lengths, column) for column in zip(*rows, strict=True)]


def _one(
    model: Any, run: Callable[[int, int], torch.Tensor], count: int, length: int, grad: bool
) -> tuple[float, float, float, float, float]:
    """Bytes kept, most beyond that in the forward and in the backward pass, the peak without gradient, and bytes that
    the host keeps."""
    with Meter() as meter:
        if (activations := getattr(model, "host_activations", None)) is not None:
            activations.host = meter.on_host
        with torch.no_grad(), computing(model):
            out = run(count, length)
        del out
        alone = meter.take_peak()
        if not grad:
            return 0.0, 0.0, 0.0, float(alone), 0.0
        with computing(model):
            out = run(count, length)
        kept, host, forward = meter.live, meter.host, meter.take_peak()
        if not out.requires_grad:
            return 0.0, 0.0, 0.0, float(alone), 0.0
        torch.autograd.backward(out, torch.zeros_like(out))
        backward = meter.take_peak()
    return float(kept), float(forward - kept), float(backward - kept), float(alone), float(host)


def _head(family: Family, model: Any) -> HeadMemory:
    """Log-probs of response tokens, with their backward pass."""
    width, chunk = int(model.config.get_text_config().hidden_size), chunk_tokens(model)

    def one(targets: int) -> tuple[float, float]:
        with Meter() as meter:
            hidden = torch.zeros(targets, width, dtype=model.compute_dtype, requires_grad=True)
            ids = torch.zeros(targets, dtype=torch.int64)
            logprobs, _ = hidden_logprobs(family, model, hidden, ids)
            kept = meter.live
            torch.autograd.backward(logprobs, torch.zeros_like(logprobs))
            return float(meter.take_peak()), float(kept)

    # A chunk that is not whole takes less for each token.
    small, large = [math.ceil(chunk / 4), math.ceil(chunk / 2) + 1], [2 * chunk, 3 * chunk]
    below, above = ([one(targets) for targets in lengths] for lengths in (small, large))
    return HeadMemory(
        chunk,
        Curve.through(small, [peak for peak, _ in below]),
        Curve.through(large, [peak for peak, _ in above]),
        Curve.through(large, [kept for _, kept in above]),
    )
