"""The sections of ``benchmarks.engines`` that run engines in this process."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import torch

from benchmarks.engines_before.local import EarlierLocalEngine
from benchmarks.engines_before.model import earlier_layers
from benchmarks.measure import by_round, interleaved, table, timed
from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.engines.engine import Engine, Request, Sampling, generate
from easyvideor1.engines.registry import open_engine
from easyvideor1.policy.policy import Policy
from easyvideor1.recipes.toy import KINDS, write_warm_start
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.types import Prompt, Trajectory

#: What log-probs of engine and trainer may differ by.
BOUND = 1e-4
#: Tokens in the caches of an engine: all requests fit at once.
BATCH_TOKENS = 65_536
#: How videos are shown in prompts of some 2,000 tokens: 4 temporal steps of 22 x 22 visual tokens.
LONG_VIDEO = {"rule": "uniform", "frames": 8, "min_pixels": 704 * 704, "max_pixels": 704 * 704}
#: How far weights are moved for an update that answers must show.
_SHAKE = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """The amount of work to measure."""

    prompts: int = 64
    n: int = 8
    tokens: int = 64
    rounds: int = 3
    #: Prompts with long videos whose prefills are counted.
    long_prompts: int = 4
    #: Prompts whose log-probs and greedy answers are compared.
    checked: int = 16
    #: Steps of the runs that are compared, and how many of them, the last ones, count.
    steps: int = 10
    counted: int = 7


class Bench:
    """Prompts, frames, weights and engines that the sections share.

    Args:
        work: directory; clips and frames in it are used again.
        size: how much is measured.
        vllm: whether vLLM is compared, too.
    """

    def __init__(self, work: Path, size: Size, *, vllm: bool) -> None:
        self.work, self.size, self.vllm = work, size, vllm
        self._stack = ExitStack()
        work.mkdir(parents=True, exist_ok=True)
        spec = WorldSpec(seed=11, train=size.prompts, validation=0, test=0, kinds=KINDS, bodies=(1, 1), image_share=0.0)
        write_world(spec, work / "world")
        self.checkpoint = write_warm_start(work / "warm-start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def config(self, **sections: Any) -> RunConfig:
        """The configuration of the quickstart over the clips of this benchmark."""
        pixels = {"min_pixels": 4096, "max_pixels": 4096}
        values: dict[str, Any] = {
            "name": "bench",
            "threads": 1,
            "model": {"path": str(self.checkpoint), "device": "cpu"},
            "data": {
                "train": [{"path": str(self.work / "world" / "train.jsonl")}],
                "video": {"rule": "uniform", "frames": 8, **pixels},
            },
            "cache": {"dir": str(self.work / "frames"), "workers": 1},
            "rollout": {"max_new_tokens": self.size.tokens},
        }
        return RunConfig.model_validate(values | sections)

    @cached_property
    def components(self) -> Components:
        """Open for the length of the benchmark, with all frames in the store."""
        components = self._stack.enter_context(Components.open(self.config()))
        self.loaded = components.load_sources(components.config.data.train)
        components.fill_cache(self.loaded)
        self.prompts: list[Prompt] = [components.render(sample) for source in self.loaded for sample in source.samples]
        return components

    @cached_property
    def policy(self) -> Policy:
        """The trainer."""
        return Policy.open(self.components.config.model, self.checkpoint)

    def requests(self, count: int | None = None, *, n: int | None = None, greedy: bool = False) -> list[Request]:
        """One request for each of the first ``count`` prompts."""
        self.components  # noqa: B018 - it renders the prompts
        return self._requests(self.prompts[:count], n or self.size.n, greedy=greedy)

    def long_requests(self) -> list[Request]:
        """The first questions about the same videos, shown in larger pictures. Engines decode them."""
        data = {**self.config().data.model_dump(), "video": LONG_VIDEO}
        with Components.open(self.config(data=data)) as components:
            samples = [sample for source in self.loaded for sample in source.samples]
            prompts = [components.render(sample) for sample in samples[: self.size.long_prompts]]
        return self._requests(prompts, self.size.n)

    def _requests(self, prompts: Sequence[Prompt], n: int, *, greedy: bool = False) -> list[Request]:
        sampling = Sampling(max_new_tokens=self.size.tokens, greedy=greedy)
        return [Request(f"prompt {place}", prompt, n, sampling, seed=place) for place, prompt in enumerate(prompts)]

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """The engines to compare, by name, with the trainer's weights."""
        family, load, model = self.components.family, self.components.load, self.policy.model
        found: dict[str, Engine] = {
            "before": EarlierLocalEngine(family, model, load),
            "local": open_engine("local", family, model, load, batch_tokens=BATCH_TOKENS),
        }
        if self.vllm:
            config = self.components.config.model
            found["vllm"] = open_engine("vllm", family, model, load, batch_tokens=BATCH_TOKENS, config=config)
        for engine in found.values():
            self._stack.callback(engine.close)
        return found

    def generate(self, name: str, engine: Engine, requests: Sequence[Request]) -> list[tuple[Trajectory, ...]]:
        """Responses of an engine; the one before has the layers of its time."""
        with earlier_layers(self.policy.model) if name == "before" else nullcontext():
            return generate(engine, requests)

    @property
    def compared(self) -> dict[str, Engine]:
        """The engines of this version."""
        return {name: engine for name, engine in self.engines.items() if name != "before"}

    def gap(self, answers: Sequence[Sequence[Trajectory]]) -> float:
        """The largest distance of a log-prob from the trainer's."""
        turns = [turn for group in answers for one in group for turn in one.turns]
        trainer = self.policy.logprobs(turns, temperature=1.0, load=self.components.load)
        gaps = [
            float((own - torch.from_numpy(turn.logprobs)).abs().max())
            for own, turn in zip(trainer.values(), turns, strict=True)
            if turn.logprobs is not None and len(turn.response_ids)
        ]
        return max(gaps, default=0.0)


def measure_speed(bench: Bench) -> dict[str, Any]:
    """Responses per second of every engine on the same requests, in turns."""
    requests, engines = bench.requests(), bench.engines
    counts = {name: _Counter(engine) for name, engine in engines.items()}
    answers: dict[str, list[tuple[Trajectory, ...]]] = {}

    def once(name: str) -> None:
        answers[name] = bench.generate(name, engines[name], requests)

    works = {name: timed(partial(once, name)) for name in engines}
    timings = interleaved(works, bench.size.rounds, warm_up=1)
    responses, prompts = len(requests) * bench.size.n, sum(len(request.prompt) for request in requests)
    rounds = bench.size.rounds + 1
    rows, found = [], dict[str, Any]()
    for name, timing in timings.items():
        rate, tokens = responses / timing.wall, sum(one.response_tokens for group in answers[name] for one in group)
        found[f"{name}_responses_per_second"] = round(rate, 2)
        computed = counts[name].since("prefilled_tokens")
        per_prompt = "" if computed is None else f"{computed / rounds / prompts:.3f}"
        rows.append([name, f"{rate:.1f}", f"{tokens / timing.wall:.0f}", f"{timing.cpu:.2f}", per_prompt])
    title = f"{len(requests)} video prompts of {prompts / len(requests):.0f} tokens x {bench.size.n} responses"
    print(table(title, ["engine", "responses/s", "tokens/s", "cpu s", "prefills of a token"], rows))
    computed = max(filter(None, (counts[name].since("prefilled_tokens") for name in bench.compared)), default=None)
    found["prefill_per_prompt"] = None if computed is None else round(computed / rounds / prompts, 4)
    before, local, vllm = timings["before"], timings["local"], timings.get("vllm")
    found["local_vs_before"] = round(by_round(before, local), 2)
    found["local_vs_before_cpu"] = round(before.cpu / local.cpu, 2)
    found["vllm_vs_local"] = None if vllm is None else round(by_round(local, vllm), 2)
    if vllm is None:
        found["vllm_note"] = "vLLM is not installed here, so it was not measured"
    return found | _long_prefill(bench) | _full_length(bench)


def _long_prefill(bench: Bench) -> dict[str, Any]:
    """How often each token of prompts with long videos is computed; the time is not measured."""
    requests = bench.long_requests()
    prompts = sum(len(request.prompt) for request in requests)
    found = dict[str, float]()
    for name, engine in bench.compared.items():
        count = _Counter(engine)
        generate(engine, requests)
        if (computed := count.since("prefilled_tokens")) is not None:
            found[name] = computed / prompts
    title = f"{len(requests)} video prompts of {prompts / len(requests):.0f} tokens x {bench.size.n} responses"
    print(table(title, ["engine", "prefills of a token"], [[name, f"{each:.3f}"] for name, each in found.items()]))
    return {"prefill_per_prompt_long": round(max(found.values()), 4)}


def _full_length(bench: Bench) -> dict[str, Any]:
    """The local engine against the one before on responses that all have the full length.

    The stop token is one that is never sampled.
    """
    family, load, model = copy.copy(bench.components.family), bench.components.load, bench.policy.model
    family.stop_token_ids = family.visual_token_ids[:1]
    requests = bench.requests()
    engines: dict[str, Engine] = {
        "before": EarlierLocalEngine(family, model, load),
        "local": open_engine("local", family, model, load, batch_tokens=BATCH_TOKENS),
    }
    works = {name: timed(partial(bench.generate, name, engine, requests)) for name, engine in engines.items()}
    timings = interleaved(works, bench.size.rounds, warm_up=1)
    responses = len(requests) * bench.size.n
    rows = [
        [name, f"{responses / one.wall:.1f}", f"{responses * bench.size.tokens / one.wall:.0f}", f"{one.cpu:.2f}"]
        for name, one in timings.items()
    ]
    title = f"The same prompts, every response of {bench.size.tokens} tokens"
    print(table(title, ["engine", "responses/s", "tokens/s", "cpu s"], rows))
    before, local = timings["before"], timings["local"]
    return {
        "local_vs_before_full_length": round(by_round(before, local), 2),
        "local_vs_before_full_length_cpu": round(before.cpu / local.cpu, 2),
    }


class _Counter:
    """The increase of an engine's counters since this was made."""

    def __init__(self, engine: Engine) -> None:
        self._stats: Callable[[], dict[str, float]] | None = getattr(engine, "stats", None)
        self._before = {} if self._stats is None else dict(self._stats())

    def since(self, name: str) -> float | None:
        """``None`` where the engine does not count it."""
        found = {} if self._stats is None else self._stats()
        return found[name] - self._before.get(name, 0.0) if name in found else None


def measure_agreement(bench: Bench) -> dict[str, Any]:
    """Log-probs of sampled responses against the trainer's."""
    requests = bench.requests(bench.size.checked)
    gaps = {name: bench.gap(generate(engine, requests)) for name, engine in bench.compared.items()}
    rows = [[name, f"{gap:.1e}"] for name, gap in gaps.items()]
    print(table("Distance of log-probs from the trainer's", ["engine", "largest"], rows))
    return {"max_logprob_gap": max(gaps.values()), "logprob_gaps": gaps}


def measure_updates(bench: Bench) -> dict[str, Any]:
    """Seconds of weight updates, and whether anything that older weights have made is served after one."""
    requests = bench.requests(bench.size.checked, n=1, greedy=True)
    weights = dict(bench.policy.weights())
    size = sum(tensor.nbytes for tensor in weights.values()) / 2**20
    rows, stale, seconds = [], 0, dict[str, float]()
    with _owners(bench) as engines:
        for engine in engines.values():
            generate(engine, requests)  # fills caches with what the first weights make
        with _shaken(bench):
            fresh = generate(bench.engines["local"], requests)
            for name, engine in engines.items():
                taken = [_update(engine, version, bench.policy) for version in range(1, 6)]
                seconds[name] = statistics.median(taken)
                answers = generate(engine, requests)
                other = sum(bench.gap([group]) > BOUND for group in answers)
                if name != "vllm":  # rounds like the fresh engine
                    other = max(other, sum(map(_differs, answers, fresh)))
                stale += other
                rows.append([name, f"{seconds[name] * 1000:.1f}", f"{size / seconds[name]:.0f}", str(other)])
    title = f"Updates of {size:.1f} MiB of weights"
    print(table(title, ["engine", "ms", "MiB/s", "stale answers"], rows))
    return {"stale_hits": stale, "sync_seconds": {name: round(value, 4) for name, value in seconds.items()}}


def _differs(mine: tuple[Trajectory, ...], fresh: tuple[Trajectory, ...]) -> bool:
    one, other = mine[0].last, fresh[0].last
    if one.response_ids.tolist() != other.response_ids.tolist():
        return True
    assert one.logprobs is not None and other.logprobs is not None
    return bool(abs(one.logprobs - other.logprobs).max() > BOUND)


def _update(engine: Engine, version: int, policy: Policy) -> float:
    """Seconds of an update; the engine has had a version below."""
    begun = time.perf_counter()
    engine.update_weights(engine.version + 1, policy.weights())
    return time.perf_counter() - begun


@contextmanager
def _owners(bench: Bench) -> Iterator[dict[str, Engine]]:
    """Engines with weights of their own: the local one in this process and in another, and vLLM."""
    components, config = bench.components, bench.components.config
    with ExitStack() as stack:
        found: dict[str, Engine] = {
            "local": open_engine(
                *("local", components.family, bench.checkpoint, components.load),
                batch_tokens=BATCH_TOKENS,
                config=config.model,
            )
        }
        stack.callback(found["local"].close)
        with Components.open(bench.config(rollout={"workers": 1, "max_new_tokens": bench.size.tokens})) as other:
            found["local, own process"] = other.open_engine()
        stack.callback(found["local, own process"].close)
        if "vllm" in bench.engines:
            found["vllm"] = bench.engines["vllm"]
        yield found


@contextmanager
def _shaken(bench: Bench) -> Iterator[None]:
    """Every matrix of the trainer's model moved by a few percent, and put back."""
    generator = torch.Generator().manual_seed(0)
    kept = {name: parameter.detach().clone() for name, parameter in bench.policy.model.named_parameters()}
    with torch.no_grad():
        for parameter in bench.policy.model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * float(parameter.std()) * _SHAKE if parameter.dim() > 1 else 0.0)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in bench.policy.model.named_parameters():
                parameter.copy_(kept[name])
