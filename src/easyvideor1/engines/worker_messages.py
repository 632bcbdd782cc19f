"""What an engine in a process of its own and its trainer say to each other, and the two ends of the line.

The trainer's side (``WorkerEngine``) speaks through a ``Channel``, the worker's loop (``engines.worker.serve``) through
a ``Port``. Whoever hosts the loop elsewhere, such as in a Ray actor, implements both and gives ``WorkerEngine`` a
function that starts a worker and returns its ``Channel``; everything else stays.

All messages can be pickled, and none holds pixels: a worker reads frames by itself. In order:

1. ``Open`` comes first, and is answered by ``Ready``, or by ``Failed`` if the engine cannot be opened. A worker that is
   told to open again closes its engine and opens another one.
2. ``Submit``, ``Cancel`` and ``LoadWeights``, ``Call`` follow in any number. A worker takes them in their order,
   between two decoding steps of its engine. It need not be ready yet when they are sent.
3. Each request comes back in a ``Finished``. Each ``LoadWeights`` is answered by ``WeightsTaken``, and each ``Call`` by
   ``Returned``, with the same number. ``Beat`` is a sign of life. ``Failed`` also says that ``results`` of the engine
   raised: nothing is pending any more.
4. ``Close`` ends the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from easyvideor1.config import ModelConfig
from easyvideor1.config.engines import VLLMConfig
from easyvideor1.engines.engine import Request
from easyvideor1.engines.packed import Fault, PackedPrompt, PackedRequest, Response
from easyvideor1.spans import Span

if TYPE_CHECKING:
    import torch

    from easyvideor1.families.features import FeatureStore
    from easyvideor1.families.inputs import LoadFrames

#: Counters of an engine since it was opened, see ``Engine.stats``.
Stats = Mapping[str, float]


class Channel(Protocol):
    """The trainer's end. One thread uses it at a time."""

    @property
    def shares_memory(self) -> bool:
        """Whether the worker can map memory of this process; known once the worker is ready."""
        ...

    def send(self, message: ToWorker) -> None:
        """Send a message. It never waits for the worker, and what is sent to a dead one is lost without an error."""
        ...

    def receive(self, timeout: float) -> FromWorker | None:
        """The next message; ``None`` if there is none within ``timeout`` seconds, or the worker died meanwhile."""
        ...

    def alive(self) -> bool:
        """Whether more messages may come: ``False`` once the worker is dead and all that it sent was received."""
        ...

    def kill(self) -> None:
        """End the worker at once, also one that hangs, and release what belongs to it; may be called again."""
        ...

    def last_words(self) -> str:
        """How the worker ended, such as ``killed by SIGKILL``, and the last lines that it printed."""
        ...


class Port(Protocol):
    """The worker's end."""

    def send(self, message: FromWorker) -> None:
        """Send a message."""
        ...

    def receive(self, timeout: float | None) -> ToWorker | None:
        """The next message; ``None`` if there is none within ``timeout`` seconds. ``None`` for ``timeout`` waits.

        Raises:
            EOFError: the trainer is gone.
        """
        ...


@dataclass(frozen=True, slots=True)
class WorkerMedia:
    """How a worker reads media: frames, features that are kept (if any), and what is to be closed at the end."""

    load: LoadFrames
    features: FeatureStore | None = None
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class TorchSettings:
    """Settings of torch in a process that decide the bits of a result."""

    threads: int
    deterministic: bool
    matmul_precision: str

    @classmethod
    def of_this_process(cls) -> TorchSettings:
        """The settings here."""
        import torch

        return cls(
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
        )

    def apply(self) -> None:
        """Have these settings in this process."""
        import torch

        torch.set_num_threads(self.threads)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=True)
        torch.set_float32_matmul_precision(self.matmul_precision)


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that a worker needs to open its engine.

    Args:
        engine: a registered name, or ``module:attr``.
        checkpoint: directory; family and first weights are read there.
        config: how it is loaded.
        batch_tokens: see ``registry.open_engine``.
        open_media: makes what reads media, in the worker; it can be pickled, such as a ``functools.partial`` of a
            function of a module.
        torch: settings of the trainer.
        tensor_parallel_size: see ``registry.open_engine``.
        vllm: see ``registry.open_engine``.
    """

    engine: str
    checkpoint: Path
    config: ModelConfig
    batch_tokens: int
    open_media: Callable[[], WorkerMedia]
    torch: TorchSettings
    tensor_parallel_size: int = 1
    vllm: VLLMConfig | None = None


class WeightSource(Protocol):
    """Where a worker finds weights; travels in ``LoadWeights``, and can be pickled."""

    def read(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Hugging Face names and tensors, in the worker. A tensor is valid until the next one is asked for."""
        ...


# -- to the worker


@dataclass(frozen=True, slots=True)
class Open:
    """Open the engine."""

    opening: Opening


@dataclass(frozen=True, slots=True, eq=False)
class Submit:
    """Requests of one window. Prompts that were one object are one object again."""

    prompts: tuple[PackedPrompt, ...]
    requests: tuple[PackedRequest, ...]

    @classmethod
    def of(cls, requests: Mapping[int, Request]) -> Submit:
        """A window of requests by ticket."""
        places: dict[int, int] = {}
        prompts: list[PackedPrompt] = []
        packed = []
        for ticket, request in requests.items():
            if id(request.prompt) not in places:
                places[id(request.prompt)] = len(prompts)
                prompts.append(PackedPrompt.of(request.prompt))
            place = places[id(request.prompt)]
            packed.append(PackedRequest(ticket, request.id, place, request.n, request.sampling, request.seed))
        return cls(tuple(prompts), tuple(packed))

    def unpacked(self) -> dict[int, Request]:
        """The requests by ticket."""
        prompts = [prompt.unpacked() for prompt in self.prompts]
        return {
            each.ticket: Request(each.id, prompts[each.prompt], each.n, each.sampling, each.seed)
            for each in self.requests
        }


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop requests."""

    tickets: Collection[int]


@dataclass(frozen=True, slots=True)
class LoadWeights:
    """Take the weights of a version."""

    number: int
    version: int
    source: WeightSource


@dataclass(frozen=True, slots=True)
class Call:
    """Call a method of the engine: ``sleep``, ``wake``, or ``partial`` with a ticket."""

    number: int
    method: str
    ticket: int | None = None


@dataclass(frozen=True, slots=True)
class Close:
    """Close the engine and end."""


ToWorker = Open | Submit | Cancel | LoadWeights | Call | Close

# -- from the worker


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine is open.

    ``takes_adapters`` is the engine's. ``max_tokens`` is what a prompt and its response may have together, ``None``
    without a limit. ``pid`` is the process of the engine, for people and tests.
    """

    pid: int
    takes_adapters: bool = False
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """A result under the trainer's ticket, the engine's counters, and what it did since it last said so."""

    ticket: int
    responses: tuple[Response, ...]
    fault: Fault | None
    stats: Stats
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class WeightsTaken:
    """Weights were taken or refused; ``checksums`` by name are of the tensors that the engine took."""

    number: int
    checksums: Mapping[str, int]
    fault: Fault | None = None
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Returned:
    """What a call returned, or its fault."""

    number: int
    value: Any = None
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Beat:
    """The worker is alive and decodes."""

    stats: Stats = field(default_factory=dict)
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine could not be opened, or it raised and gave up the requests with these tickets."""

    fault: Fault
    tickets: tuple[int, ...] = ()


FromWorker = Ready | Finished | WeightsTaken | Returned | Beat | Failed
