"""Bytes as functions of lengths, and what a model takes by part: plain numbers, made by ``measure``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from easyvideor1.packing.balance import Costs


@dataclass(frozen=True, slots=True)
class Curve:
    """``constant + linear * n + square * n ** 2`` bytes for ``n`` tokens or patches."""

    constant: float = 0.0
    linear: float = 0.0
    square: float = 0.0

    @classmethod
    def through(cls, lengths: Sequence[int], values: Sequence[float]) -> Curve:
        """The line through two points, or the parabola through three (Newton's divided differences)."""
        a, b, x, y = lengths[0], lengths[1], values[0], values[1]
        first, square = (y - x) / (b - a), 0.0
        if len(lengths) == 3:
            c, z = lengths[2], values[2]
            square = ((z - y) / (c - b) - first) / (c - a)
        linear = first - square * (a + b)
        return cls(x - linear * a - square * a * a, linear, square)

    def at(self, length: float) -> float:
        """Bytes for ``length``; none for none."""
        return self.constant + self.linear * length + self.square * length**2 if length > 0 else 0.0

    def __add__(self, other: Curve) -> Curve:
        return Curve(self.constant + other.constant, self.linear + other.linear, self.square + other.square)

    def __mul__(self, factor: float) -> Curve:
        return Curve(self.constant * factor, self.linear * factor, self.square * factor)


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest of some curves. The worst moment of a pass is another one for long rows than for short ones, where
    weights and their gradients count for more; each moment has its line."""

    curves: tuple[Curve, ...] = ()

    def at(self, length: float) -> float:
        """Bytes for ``length``; none for none."""
        return max((curve.at(length) for curve in self.curves), default=0.0)


@dataclass(frozen=True, slots=True)
class PassMemory:
    """What some layers take for ``n`` tokens.

    ``kept`` is there between forward and backward pass. ``forward`` and ``backward`` are the most that a pass needs
    beyond what is kept at that moment. ``alone`` is the peak of a pass without gradient, ``layer`` what the backward
    pass still needs of the layers when only the first is left. ``host`` is what the memory of the host keeps between
    forward and backward pass (``model.offload``).
    """

    kept: Highest = Highest()
    forward: Highest = Highest()
    backward: Highest = Highest()
    alone: Highest = Highest()
    layer: Highest = Highest()
    host: Highest = Highest()


@dataclass(frozen=True, slots=True)
class HeadMemory:
    """What log-probs of ``n`` response tokens take: the peak, forward or backward, and what is kept in between.

    Logits exist for ``chunk`` tokens at a time, so the peak is one line below that number and another above it.
    """

    chunk: int
    below: Curve
    above: Curve
    kept: Curve

    def peak(self, targets: float) -> float:
        """Bytes of logits, their gradients and that of the output matrix at the worst moment."""
        return (self.below if targets <= self.chunk else self.above).at(targets)


@dataclass(frozen=True, slots=True)
class Gathered:
    """Bytes of layers that ranks share while they run: weights of two layers and of what is around all of them, and in
    the backward pass gradients, of one layer and of what is around, until they are summed."""

    weights: int = 0
    gradients: int = 0


@dataclass(frozen=True, slots=True)
class SharedSizes:
    """What ranks share of a model (``policy.sharding``): trained numbers, bytes of frozen weights, and what is gathered
    while the language model and while the vision tower runs."""

    trained_values: int = 0
    frozen: int = 0
    language: Gathered = Gathered()
    vision: Gathered = Gathered()


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes of a model as a configuration trains it, in bytes unless said otherwise.

    ``trained`` and ``frozen`` are weights by module group; ``trained_values`` counts trained numbers, each of which has
    a float32 gradient and two float32 moments. ``largest`` is the largest trained tensor, ``largest_file`` the largest
    of a checkpoint. ``key_values`` are those of one token in the engine's cache. ``pixels`` are those of one patch as
    the tower takes them, ``features`` what a visual token is given, ``hidden`` the state of one token. ``vision_chunk``
    are patches that the tower computes at a time, 0 all of them. ``mlp_chunk`` are tokens that MLPs compute at a time
    in longer rows (``language``; others are ``short_rows``), and ``computed_again`` the operations per token that such
    a row computes once more. ``layer_trained`` are trained weights of the largest layer of the language model.
    """

    trained: dict[str, int]
    frozen: dict[str, int]
    trained_values: int
    largest: int
    largest_file: int
    all_values: int
    language: PassMemory
    short_rows: PassMemory
    vision: PassMemory
    head: HeadMemory
    key_values: int
    pixels: int
    features: int
    hidden: int
    vocabulary: int
    compute_bytes: int
    tower_trained: bool
    merge: int
    costs: Costs
    shared: SharedSizes = SharedSizes()
    vision_chunk: int = 0
    mlp_chunk: int = 0
    computed_again: float = 0.0
    layer_trained: int = 0

    def decoder(self, tokens: int) -> PassMemory:
        """The language model's layers for rows of a micro-batch of so many tokens."""
        return self.language if tokens > self.mlp_chunk else self.short_rows

    def patches_at_once(self, patches: int) -> int:
        """Patches that the tower computes at a time."""
        return min(patches, self.vision_chunk) if self.vision_chunk else patches

    def patches_kept(self, patches: int) -> int:
        """Patches whose activations the tower keeps between forward and backward pass: none if it learns in chunks."""
        return patches if self.tower_trained and self.patches_at_once(patches) == patches else 0

    @property
    def weights(self) -> int:
        """All weights as the trainer holds them."""
        return sum(self.trained.values()) + sum(self.frozen.values())
