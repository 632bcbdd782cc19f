"""The contract of a generation engine."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from easyvideor1.types import ConfigError, DataError, EasyVideoError, Prompt, Trajectory

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``greedy`` takes the likeliest token and ignores all but ``max_new_tokens`` and ``stop``.

    Penalties change what is drawn from, before ``temperature``, ``top_k`` and ``top_p``, which follow in that order.
    ``repetition_penalty`` divides the positive logits of tokens that the prompt or the response so far holds, and
    multiplies the negative ones. ``presence_penalty`` is taken off the logits of tokens that the response holds, and
    ``frequency_penalty`` once for each time that it does. A response ends with the token that completes one of the
    strings of ``stop``; its text holds that string.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 512
    greedy: bool = False
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        in_range = self.temperature > 0 and 0 < self.top_p <= 1 and self.top_k >= 0 and self.max_new_tokens > 0
        penalties = (self.presence_penalty, self.frequency_penalty)
        if not (in_range and 0 < self.repetition_penalty < math.inf and all(map(math.isfinite, penalties))):
            raise ConfigError(
                f"{self}: temperature, max_new_tokens and repetition_penalty are above 0, top_p in (0, 1], top_k at "
                "least 0, and no penalty is infinite; the likeliest token is greedy=True, not temperature 0"
            )
        if isinstance(self.stop, str) or not all(self.stop):
            raise ConfigError(f"{self}: stop is a tuple of strings, none of them empty")

    @property
    def penalises(self) -> bool:
        """Whether earlier tokens change what is drawn."""
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return not self.greedy and penalties != (1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """``n`` responses to one prompt. All randomness comes from ``seed``, whatever else is in the batch.

    ``id`` is free text for messages and need not be unique: tickets tell requests apart.
    """

    id: str
    prompt: Prompt
    n: int
    sampling: Sampling
    seed: int

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"request {self.id!r} asks for {self.n} responses; ask for at least 1")
        if not len(self.prompt):
            raise DataError(f"request {self.id!r}: its prompt has no token; a prompt has at least one")


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of one request: its ``n`` trajectories, or its ``fault``, beside which some of them may be there."""

    ticket: int
    request: Request
    trajectories: tuple[Trajectory, ...] = ()
    fault: EasyVideoError | None = None


class Engine(Protocol):
    """Generates trajectories. One thread uses an engine at a time.

    Attributes that an engine may have; where they are missing, they are ``False`` or empty: with ``takes_features`` and
    ``opens_checkpoints`` a class is opened with more (``open_engine``); an engine with ``takes_adapters`` receives
    adapters beside the weights that they change, not merged weights, and adapters alone once it has these. With
    ``runs_ahead`` an engine has weights of its own and generates in the background, whether or not its caller waits for
    results; where nothing has finished, its ``results`` yields ``None`` soon. With ``joins_running`` requests that are
    submitted while others run join them at once; otherwise they wait until these are done. A class with
    ``tensor_parallel`` can be opened so that several devices share each layer.
    ``unknown_logprobs`` names the fields of ``Sampling`` with which it returns no log-probs, such as
    ``("top_p", "top_k")``. ``requires`` names a package that the class needs, and the command that installs it:
    ``("vllm", 'pip install "easyvideor1[vllm]"')``.

    Methods that an engine may have: ``partial(ticket)`` returns the token ids so far of the ``n`` responses of a
    pending request, for streaming; ``arrived()`` returns the results that are there already, without a wait;
    ``stats()`` returns counters since it was opened, such as ``prompt_tokens`` and ``cached_tokens``; ``spans()``
    returns what the engine did since the last call (``spans.Span``), by the name of each worker, for the trace and the
    idle shares of a run.

    Requirements:

    - ``submit`` returns one new ticket per request. Each ticket that is not cancelled comes back once, in any order,
      as a ``Result`` with ``n`` trajectories or a fault.
    - A request fails alone: media that cannot be read (``MediaError``, ``DataError``) are the fault of its result, and
      change no other result, except that batches form without it, which can change the last bits of logits. What
      ``results`` raises is a failure of the engine; nothing is pending afterwards.
    - Randomness comes from the seed of a request alone. What else is in the batch may change logits in the last bits.
    - Visual special tokens are never sampled. A response ends with a stop token of the family, with the token that
      completes a string of ``Sampling.stop``, or after ``max_new_tokens`` tokens.
    - ``Turn.logprobs`` are those of the sampled tokens under ``temperature``, after the mask of visual tokens and
      before penalties, ``top_p`` and ``top_k``: the policy's own, whatever was drawn from; those of greedy responses
      are at temperature 1. An engine that cannot compute these returns ``None``, never other numbers. (vLLM returns
      log-probs at temperature 1 unless ``logprobs_mode="processed_logprobs"``, which is after the cut by ``top_p``,
      ``top_k`` and penalties: at temperature 1 take the first, else the second, and only without a cut or penalties.
      It does not mask visual tokens: forbid them in its sampling parameters.)
    - ``Turn.versions`` holds, for each token, the ``version`` of the weights that drew it, or is ``None`` if unknown.
    """

    #: Of the weights in use; it only grows while the engine lives.
    version: int

    def submit(self, requests: Sequence[Request]) -> list[int]:
        """Accept requests and return their tickets. One call is one window of batching."""
        ...

    def results(self) -> Iterator[Result | None]:
        """Yield each result as soon as it is there, and end when nothing is pending.

        More may be submitted or cancelled meanwhile, and weights updated. An iterator that was left early loses
        nothing: the next call continues. ``None`` says that nothing has finished yet: an engine may yield it after a
        decoding step, so that its caller gets control while long responses grow.
        """
        ...

    def cancel(self, tickets: Collection[int]) -> None:
        """Drop these requests: they give no result any more. Tickets that gave theirs already are ignored."""
        ...

    def update_weights(self, version: int, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Take the weights of ``version`` under Hugging Face names; parameters that do not come keep their values.

        Tokens drawn afterwards are of this version, also those of responses that were begun before.

        Raises:
            ConfigError: ``version`` is below the present one, or a tensor is not of this model.
        """
        ...

    def sleep(self) -> None:
        """Release the device memory that the engine can do without until ``wake``. It may sleep already."""
        ...

    def wake(self) -> None:
        """Get ready to generate. ``results`` and ``update_weights`` wake an engine that sleeps by themselves."""
        ...

    def close(self) -> None:
        """Release everything; whoever opened the engine calls it, once or more (``contextlib.closing``)."""
        ...


def finished(engine: Engine) -> Iterator[Result]:
    """The results of an engine, without the pauses between them."""
    return (result for result in engine.results() if result is not None)


def added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Two sets of counters in sum (``Engine.stats``)."""
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}


def generate(engine: Engine, requests: Sequence[Request]) -> list[tuple[Trajectory, ...]]:
    """The trajectories of all requests, in their order: for scripts that generate without a run.

    Args:
        engine: has nothing else pending.
        requests: one window of batching.

    Raises:
        EasyVideoError: the first fault of a request, after the others were cancelled; or the engine breaks its
            contract.
    """
    tickets = engine.submit(requests)
    places = {ticket: place for place, ticket in enumerate(tickets)}
    found: dict[int, tuple[Trajectory, ...]] = {}
    try:
        for result in finished(engine):
            place = places.get(result.ticket)
            if place is None or place in found:
                raise contract_error(engine, f"returned ticket {result.ticket}, which is not pending")
            if result.fault is not None:
                raise result.fault
            count, request = len(result.trajectories), requests[place]
            if count != request.n:
                what = f"answered request {request.id!r} with {count} responses, not with {request.n}"
                raise contract_error(engine, what)
            found[place] = result.trajectories
    except BaseException:
        engine.cancel(tickets)
        raise
    if len(found) < len(requests):
        raise contract_error(engine, f"answered {len(found)} of {len(requests)} requests")
    return [found[place] for place in range(len(requests))]


#: Methods of the contract.
_METHODS = ("submit", "results", "cancel", "update_weights", "sleep", "wake", "close")


def check_contract(name: str, engine: object) -> None:
    """Check that a class of engines has the methods of the contract, and that what it ``requires`` is installed.

    A function that makes engines is not looked into.

    Raises:
        ConfigError: it lacks some methods, or the package is not installed; the message names them.
    """
    missing = [method for method in _METHODS if not callable(getattr(engine, method, None))]
    if isinstance(engine, type) and missing:
        raise ConfigError(
            f"engine {name!r} has no {', '.join(missing)}; an engine has the methods "
            f"{', '.join(_METHODS)} (docs/engines.md)"
        )
    package, command = getattr(engine, "requires", ("", ""))
    if package and importlib.util.find_spec(package) is None:
        raise ConfigError(f"rollout.engine: {name!r} needs {package}, which is not installed; {command}")


def contract_error(engine: Engine, what: str) -> EasyVideoError:
    """The error of an engine that breaks its contract; ``what`` says how."""
    words = f"engine {class_name(engine)} {what}"
    return EasyVideoError(f"{words}; an engine returns one result for each request, with its n responses")


def class_name(engine: Engine) -> str:
    """The class of an engine, for messages; something that stands for an engine says whose it is (``class_name``)."""
    return str(getattr(engine, "class_name", type(engine).__name__))
