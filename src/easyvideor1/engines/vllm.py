"""Generation by vLLM, in the process of the trainer.

Prompts are rendered, expanded and tokenised before they come here, and pixels are normalised by the family. So vLLM
receives engine inputs that are ready (``vllm.inputs.mm_input``): token ids with every visual token in its place, the
patches of each medium and the range of its tokens. Its own processor, which would sample, resize and expand once more,
is not called.

Each response is a request of vLLM with a seed of its own. The responses of a prompt share its prefill through vLLM's
prefix cache, and its media through the encoder cache.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from easyvideor1.config import ModelConfig
from easyvideor1.config.engines import VLLMConfig
from easyvideor1.engines.decoding import StopStrings
from easyvideor1.engines.engine import Request, Result
from easyvideor1.engines.registry import ENGINES
from easyvideor1.engines.vllm_core import close_core, open_core
from easyvideor1.engines.vllm_inputs import prompt_inputs, response_parameters, tower_only
from easyvideor1.engines.vllm_weights import Intake, adapters_of
from easyvideor1.families.checkpoint import weight_name
from easyvideor1.families.family import Family
from easyvideor1.families.features import FeatureCache, FeatureStore
from easyvideor1.families.inputs import LoadFrames
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError, Trajectory, Turn


@dataclass(slots=True)
class _Response:
    """A response that grows."""

    ticket: int
    index: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Running:
    """A request that vLLM works on."""

    request: Request
    stop: StopStrings
    turns: dict[int, Turn] = field(default_factory=dict)


@ENGINES.register("vllm")
class VLLMEngine:
    """vLLM behind the contract of ``Engine``.

    The KV cache holds ``batch_tokens`` tokens. On the CPU ``VLLM_CPU_KVCACHE_SPACE`` (GiB) takes precedence. A request
    whose prompt and response together may exceed ``max_tokens`` is refused before it is sent.

    Caches serve one version of the weights only: ``update_weights`` empties them, and their keys hold the version.
    Requests that are running at that time keep their tokens, and their keys are computed anew.

    With LoRA, updates bring the base once and then adapters only.
    """

    opens_checkpoints = True
    takes_features = True
    joins_running = True
    tensor_parallel = True
    takes_vllm_settings = True
    unknown_logprobs = ("top_p", "top_k")
    requires = ("vllm", 'pip install "easyvideor1[vllm]"')

    def __init__(
        self,
        family: Family,
        model: Any | Path,
        load: LoadFrames,
        *,
        batch_tokens: int = 65_536,
        features: FeatureStore | None = None,
        config: ModelConfig | None = None,
        tensor_parallel_size: int = 1,
        settings: VLLMConfig | None = None,
    ) -> None:
        self.family = family
        self.load = load
        self.version = 0
        self._counts = dict.fromkeys(("prompt_tokens", "cached_tokens", "new_tokens"), 0.0)
        self._sync_seconds = 0.0
        self._ranks = tensor_parallel_size
        self._settings = settings or VLLMConfig()
        self._checkpoint = model if isinstance(model, Path) else Path(family.tokenizer.name_or_path)
        self._config = config or ModelConfig()
        self._batch_tokens = batch_tokens
        self._stop_ids = frozenset(family.stop_token_ids)
        self._tickets = 0
        self._pending: dict[int, Request] = {}
        self._waiting: deque[int] = deque()
        self._running: dict[int, _Running] = {}
        self._responses: dict[str, _Response] = {}
        self._done: deque[Result] = deque()
        self._asleep = False
        module = _shapes_only(family, model, self._config) if isinstance(model, Path) else model
        weights = next(module.parameters())
        computing = getattr(torch, self._config.dtype) if isinstance(model, Path) else weights.dtype
        self._dtype: torch.dtype = getattr(model, "compute_dtype", computing)
        adapters = adapters_of(module, self._config.lora)
        self.takes_adapters = adapters is not None
        self._features: FeatureCache | None = None
        tower = None
        if features is not None:
            tower = tower_only(family, model, self._config) if isinstance(model, Path) else None
            self._features = FeatureCache(family, model if tower is None else tower, features)
        self._intake = Intake(module, self._dtype, adapters, from_checkpoint=isinstance(model, Path), tower=tower)
        self._core: Any = None
        self._start()
        # A model with adapters comes with the first update.
        if not isinstance(model, Path) and not any(".lora_" in name for name, _ in model.named_parameters()):
            self._load(0, ((weight_name(name), p.detach()) for name, p in model.named_parameters()))

    @property
    def max_tokens(self) -> int:
        """Tokens that a prompt and its response may have together."""
        return int(self._core.model_config.max_model_len)

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """See ``Engine``. Requests are sent in their order."""
        tickets = list(range(self._tickets, self._tickets + len(requests)))
        self._tickets += len(requests)
        self._pending.update(zip(tickets, requests, strict=True))
        self._waiting.extend(tickets)
        return tickets

    def results(self) -> Iterator[Result | None]:
        """See ``Engine``. ``None`` comes after every decoding step in which no request has finished."""
        while self._pending:
            if (result := self._next_result()) is None or self._pending.pop(result.ticket, None) is not None:
                yield result

    def partial(self, ticket: int) -> list[list[int]]:
        """Token ids so far of each of the ``n`` responses of a pending request."""
        request = self._pending[ticket]
        running = self._running.get(ticket)
        turns = running.turns if running is not None else {}
        grown = (self._responses.get(f"{ticket}-{index}") for index in range(request.n))
        return [
            turns[index].response_ids.tolist() if index in turns else list(response.ids) if response else []
            for index, response in enumerate(grown)
        ]

    def stats(self) -> dict[str, float]:
        """Counters since the engine was opened.

        ``prompt_tokens`` are those of all responses that have finished, each with its whole prompt; ``cached_tokens``
        those among them that came from the prefix cache. ``prefilled_tokens`` are all prompt tokens that were computed,
        once more after an eviction or an update too. ``media_encoded`` are media that went through the vision tower, or
        whose kept features were handed over; ``media_hits`` were taken from the encoder cache, ``stale_hits`` those
        among them that older weights had computed, which is 0.
        """
        self._count()
        return {**self._counts, "sync_bytes": float(self._intake.bytes), "sync_seconds": self._sync_seconds}

    def cancel(self, tickets: Collection[int]) -> None:
        """See ``Engine``."""
        for ticket in tickets:
            self._pending.pop(ticket, None)
            self._abort(ticket)

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take the weights of ``version``: all of the model's, or none where only the version changes.

        vLLM joins weights (query, key and value; gate and up), so that it cannot take some of them only.

        Raises:
            ConfigError: the version is older, a tensor is not of this model, or some are missing. Where vLLM had begun
                to load, the engine generates nothing until an update has come through.
        """
        if version < self.version:
            raise ConfigError(f"weights of version {version}: the engine has version {self.version} already")
        self.wake()
        if self._core is None:
            self._start()
        adapted = self._intake.request is not None
        if not self._load(version, tensors) and (before := self._intake.incomplete) is not None:
            raise ConfigError(f"weights of version {version}: none came, and those of {before} were incomplete")
        self.version = version
        if adapted != (self._intake.request is not None):
            self._begin_anew()

    def sleep(self) -> None:
        """Release device memory while nothing is running. vLLM cannot on the CPU: nothing happens there."""
        can = self._core is not None and torch.cuda.is_available()
        if can and not self._asleep and not self._core.has_unfinished_requests():
            self._core.sleep(level=1)
            self._asleep = True

    def wake(self) -> None:
        """Take the memory back."""
        if self._asleep:
            self._core.wake_up()
            self._asleep = False

    def close(self) -> None:
        """Drop what is pending and tear vLLM down."""
        self._forget()
        self._close_core()

    # -- vLLM

    def _start(self) -> None:
        self._open_core()
        self._counted = self._core.counters.totals()

    def _open_core(self) -> None:
        self._core = open_core(
            self.family,
            self._checkpoint,
            self._config,
            self._dtype,
            self._batch_tokens,
            adapters=self._intake.adapters,
            ranks=self._ranks,
            settings=self._settings,
        )

    def _count(self) -> None:
        """Add what the core has counted since it was counted last."""
        if self._core is None:
            return
        totals = self._core.counters.totals()
        for name, total in totals.items():
            self._counts[name] = self._counts.get(name, 0.0) + total - self._counted.get(name, 0)
        self._counted = totals

    def _close_core(self) -> None:
        if self._core is not None:
            self._count()
            close_core(self._core)
            self._core = None

    def _load(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> bool:
        begun = time.monotonic()
        try:
            return self._intake.load(self._core, version, tensors)
        except BaseException:
            if self._intake.incomplete is not None:
                self._close_core()  # what vLLM holds is half old and half new, and some of it in neither place
            raise
        finally:
            self._sync_seconds += time.monotonic() - begun

    # -- requests

    def _next_result(self) -> Result | None:
        """A result, whose ticket may have been cancelled; or one decoding step, if there is none."""
        if (version := self._intake.incomplete) is not None:
            self._forget()
            raise EasyVideoError(f"weights of version {version} came only in part; update the engine's weights again")
        if self._core is None:
            self._forget()
            raise EasyVideoError("the engine was closed; open another")
        self.wake()
        try:
            if not self._done:
                self._send_waiting()
            if not self._done and self._responses:
                for output in self._core.step():
                    self._take(output)
        except BaseException:
            self._forget()
            raise
        return self._done.popleft() if self._done else None

    def _send_waiting(self) -> None:
        """Send requests until vLLM's batch is full: frames of requests that wait are not held in memory."""
        limit = 2 * self._core.vllm_config.scheduler_config.max_num_seqs
        while self._waiting and not self._done and len(self._responses) < limit:
            ticket = self._waiting.popleft()
            request = self._pending.get(ticket)
            if request is None:  # cancelled
                continue
            try:
                self._send(ticket, request)
            except (MediaError, DataError, ConfigError) as error:
                self._done.append(Result(ticket, request, fault=error))

    def _send(self, ticket: int, request: Request) -> None:
        needed = len(request.prompt) + request.sampling.max_new_tokens
        if needed > self.max_tokens:
            raise DataError(
                f"request {request.id!r}: prompt and response may have {needed} tokens together, the engine takes "
                f"{self.max_tokens}; raise rollout.batch_tokens or rollout.vllm.max_model_len, or shorten the prompt"
            )
        every = [response_parameters(request, index, self._stop_ids) for index in range(request.n)]
        inputs = prompt_inputs(request.prompt, self.family, self.load, self.version, self._features)
        self._running[ticket] = _Running(request, StopStrings(request.sampling.stop, self.family.tokenizer))
        for index, parameters in enumerate(every):
            name = f"{ticket}-{index}"
            self._responses[name] = _Response(ticket, index)
            self._core.add_request(name, inputs, parameters, lora_request=self._intake.request)

    def _take(self, output: Any) -> None:
        """Take the tokens of one step of one response."""
        response = self._responses.get(output.request_id)
        if response is None:  # cancelled
            return
        running, (part,) = self._running[response.ticket], output.outputs
        request = running.request
        # The prompt of a response does not change: once is enough, and it costs as much as the prompt is long.
        if not response.ids and not np.array_equal(output.prompt_token_ids, request.prompt.token_ids):
            self._fail(response.ticket, _other_prompt(request, output.prompt_token_ids))
            return
        response.ids += part.token_ids
        response.versions += [self.version] * len(part.token_ids)
        if part.logprobs is not None:
            response.logprobs += part.logprobs.logprobs
        said = running.stop.said(response.ids)
        if not output.finished and not said:
            return
        if output.finished and part.finish_reason not in ("stop", "length"):
            self._fail(response.ticket, EasyVideoError(f"request {request.id!r}: vLLM ended it: {part.finish_reason}"))
            return
        if not output.finished:
            self._core.abort_request([output.request_id])
        del self._responses[output.request_id]
        self._counts["prompt_tokens"] += len(request.prompt)
        self._counts["cached_tokens"] += output.num_cached_tokens or 0
        self._counts["new_tokens"] += len(response.ids)
        running.turns[response.index] = self._turn(request, response, said)
        if len(running.turns) == request.n:
            del self._running[response.ticket]
            turns = (running.turns[index] for index in range(request.n))
            self._done.append(Result(response.ticket, request, tuple(Trajectory((turn,)) for turn in turns)))

    def _turn(self, request: Request, response: _Response, said: bool) -> Turn:
        ended = response.ids[-1] in self._stop_ids
        known = len(response.logprobs) == len(response.ids)
        return Turn(
            prompt=request.prompt,
            response_ids=np.array(response.ids, dtype=np.int64),
            response_mask=np.ones(len(response.ids), dtype=bool),
            logprobs=np.array(response.logprobs, dtype=np.float32) if known else None,
            finish="stop" if ended or said else "length",
            text=self.family.tokenizer.decode(response.ids[:-1] if ended else response.ids),
            versions=np.array(response.versions, dtype=np.int64),
        )

    def _fail(self, ticket: int, fault: EasyVideoError) -> None:
        self._done.append(Result(ticket, self._running[ticket].request, fault=fault))
        self._abort(ticket)

    def _abort(self, ticket: int) -> None:
        running = self._running.pop(ticket, None)
        if running is not None:
            names = [name for index in range(running.request.n) if (name := f"{ticket}-{index}") in self._responses]
            for name in names:
                del self._responses[name]
            if self._core is not None:
                self._core.abort_request(names)

    def _begin_anew(self) -> None:
        """Draw running responses again: vLLM cannot give adapters to a request that has none, or take them away."""
        running = list(self._running)
        for ticket in running:
            self._abort(ticket)
        self._waiting.extendleft(reversed(running))

    def _forget(self) -> None:
        for ticket in list(self._running):
            self._abort(ticket)
        self._pending.clear()
        self._waiting.clear()
        self._done.clear()


def _other_prompt(request: Request, ids: Sequence[int]) -> EasyVideoError:
    return EasyVideoError(
        f"request {request.id!r}: vLLM worked on {len(ids)} prompt tokens that differ from the {len(request.prompt)} "
        "of the plan, so its responses are to another prompt; this version of vLLM does not take prompts as they are"
    )


def _shapes_only(family: Family, checkpoint: Path, config: ModelConfig) -> Any:
    return family.load_model(
        checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=config.trust_remote_code, meta=True
    )
