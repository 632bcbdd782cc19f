"""Which of several engines a request goes to: by the prefix that an engine has in its caches, and by load.

The load of an engine is counted in tokens to be generated: ``n * max_new_tokens`` of each pending request, and the
tokens that the engine has to prefill for it, ``PREFILL_PER_NEW`` of which count as one. A request goes to the engine
that has the least load with it. So an engine that has the media of a prompt in its caches is preferred, unless it is
busier than another by more than the prefill of these media is worth.

Requests of one window are placed together. Those that begin with the same medium form one unit, which goes to one
engine as a whole, largest units first. A unit that is larger than the fair share of an engine is cut between prompts,
never within one: requests with the same prompt stay together, and a request is never split, so that each prompt is
prefilled once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from easyvideor1.engines.engine import Request
from easyvideor1.types import Prompt

#: Prefilled tokens that take about as long as one generated token. A prefill is one large pass, and decoding a pass per
#: token of a batch; published engines prefill some 5 to 10 times as many tokens per second as they generate.
PREFILL_PER_NEW = 8

#: Digest of a medium, or hash of all ids of a prompt.
_Key = str | int


@dataclass(slots=True, eq=False)
class _Lane:
    """What the router knows of one engine: its load, and what it prefilled, the oldest first."""

    load: float = 0.0
    known: OrderedDict[_Key, int] = field(default_factory=OrderedDict)
    known_tokens: int = 0


class Router:
    """Assigns requests to engines, and keeps account of their loads and caches. It knows engines by number.

    Args:
        engines: their numbers.
        remembered_tokens: prefilled tokens that an engine is taken to have in its caches.
    """

    def __init__(self, engines: Iterable[int], remembered_tokens: int) -> None:
        self._lanes = {number: _Lane() for number in engines}
        self._remembered_tokens = remembered_tokens
        self._costs: dict[int, tuple[int, float]] = {}

    def assign(self, window: Sequence[tuple[int, Request]]) -> dict[int, int]:
        """The engine of each request of a window, by ticket; their loads grow until ``done``.

        It depends on the window, on what is pending and on what was assigned before, not on time.
        """
        total = sum(lane.load for lane in self._lanes.values())
        # As if nothing was in a cache: the upper bound of what the window costs.
        window_cost = sum(request.n * request.sampling.max_new_tokens for _, request in window)
        units = [piece for unit in _units(window) for piece in _cut(unit, (total + window_cost) / len(self._lanes))]
        units.sort(key=lambda unit: -_new_tokens(unit))  # a stable sort: of equal ones the first goes first
        placed: dict[int, int] = {}
        for unit in units:
            number = min(self._lanes, key=lambda each: (self._lanes[each].load + self._prefill(each, unit), each))
            lane = self._lanes[number]
            for ticket, request in unit:
                cost = request.n * request.sampling.max_new_tokens + self._prefill(number, [(ticket, request)])
                lane.load += cost
                self._costs[ticket] = number, cost
                self._remember(lane, request.prompt)
                placed[ticket] = number
        return placed

    def done(self, ticket: int) -> None:
        """A request has its result, or none any more."""
        number, cost = self._costs.pop(ticket)
        if number in self._lanes:
            # Sums of floats leave a rest; an idle engine has no load.
            self._lanes[number].load = max(0.0, self._lanes[number].load - cost)

    def remove(self, number: int) -> None:
        """An engine takes no requests any more."""
        del self._lanes[number]

    def forget_prefixes(self) -> None:
        """The caches of all engines are empty, as after an update of weights."""
        for lane in self._lanes.values():
            lane.known.clear()
            lane.known_tokens = 0

    def loads(self) -> dict[int, float]:
        """The load of each engine, in tokens to be generated."""
        return {number: lane.load for number, lane in self._lanes.items()}

    def _prefill(self, number: int, unit: Sequence[tuple[int, Request]]) -> float:
        """What an engine has to prefill for a unit, in tokens to be generated."""
        known = self._lanes[number].known
        parts = {key: tokens for _, request in unit for key, tokens in _parts(request.prompt) if key not in known}
        return sum(parts.values()) / PREFILL_PER_NEW

    def _remember(self, lane: _Lane, prompt: Prompt) -> None:
        for key, tokens in _parts(prompt):
            lane.known_tokens += tokens - lane.known.pop(key, 0)
            lane.known[key] = tokens
        while lane.known_tokens > self._remembered_tokens:
            lane.known_tokens -= lane.known.popitem(last=False)[1]


def _parts(prompt: Prompt) -> list[tuple[_Key, int]]:
    """What of a prompt can be in a cache, with its tokens: each medium, and the text of the whole prompt."""
    media = [(plan.digest, plan.tokens) for plan in prompt.plans]
    return [*media, (_whole(prompt), len(prompt) - sum(tokens for _, tokens in media))]


def _whole(prompt: Prompt) -> int:
    return hash((prompt.token_ids.tobytes(), tuple(plan.digest for plan in prompt.plans)))


def _units(window: Sequence[tuple[int, Request]]) -> list[list[list[tuple[int, Request]]]]:
    """Requests that begin with the same medium, in the order of the window; in each those of one prompt together."""
    units: dict[_Key, dict[int, list[tuple[int, Request]]]] = {}
    for ticket, request in window:
        prompt, whole = request.prompt, _whole(request.prompt)
        first = prompt.plans[0].digest if prompt.plans else whole
        units.setdefault(first, {}).setdefault(whole, []).append((ticket, request))
    return [list(prompts.values()) for prompts in units.values()]


def _cut(unit: Sequence[list[tuple[int, Request]]], limit: float) -> list[list[tuple[int, Request]]]:
    """A unit in pieces of whole prompts, each of at most ``limit`` tokens to be generated unless it is one prompt."""
    pieces: list[list[tuple[int, Request]]] = []
    for prompt in unit:
        if not pieces or _new_tokens(pieces[-1]) + _new_tokens(prompt) > limit:
            pieces.append([])
        pieces[-1] += prompt
    return pieces


def _new_tokens(unit: Sequence[tuple[int, Request]]) -> int:
    return sum(request.n * request.sampling.max_new_tokens for _, request in unit)
