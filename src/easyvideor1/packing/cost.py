"""How much work a micro-batch is, estimated from the shapes of a model: vision and language, products and attention.

The same number of tokens may be very different work: visual tokens have a vision tower behind them, attention grows
with the square of a text, and only response tokens have logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from easyvideor1.families.family import Family
from easyvideor1.packing.prefix_tree import PackedTurns, build_forest, media_of
from easyvideor1.types import MediaPlan


@dataclass(frozen=True, slots=True)
class Costs:
    """Floating-point operations of one forward pass: two per weight and token of every matrix product.

    ``token`` and ``pair`` (of a query and a key that it sees) are of all language layers, ``target`` of the logits of a
    response token, ``patch`` and ``patch_pair`` of vision tower and merger. Norms and activations are left out.
    """

    token: float
    pair: float
    target: float
    patch: float
    patch_pair: float

    def media(self, plans: Iterable[MediaPlan]) -> float:
        """Of the vision tower: patches of one temporal step attend to each other."""
        total = 0.0
        for plan in plans:
            steps, rows, columns = plan.grid
            total += steps * rows * columns * (self.patch + self.patch_pair * rows * columns)
        return total


def model_costs(family: Family, model: Any) -> Costs:
    """The costs of a model, counted from its modules."""
    groups = family.groups(model)
    text = model.config.get_text_config()
    vision = model.config.vision_config
    share = (getattr(text, "num_experts_per_tok", None) or 1) / (getattr(text, "num_experts", None) or 1)
    token = target = 0.0
    for module in _modules(groups["language"]):
        if isinstance(module, torch.nn.Linear):
            if module.out_features == text.vocab_size:
                target += 2 * module.weight.numel()
            else:
                token += 2 * module.weight.numel()
        # Experts are one tensor (experts, in, out); a token meets some of them.
        token += sum(2 * p.numel() * share for p in module.parameters(recurse=False) if p.dim() == 3)
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    attending = sum("linear" not in kind for kind in kinds)
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    merged = family.geometry.merge_size**2
    patch = sum(2.0 * p.numel() for m in _modules(groups["vision"]) for p in _matrices(m))
    patch += sum(2 * p.numel() / merged for m in _modules(groups["merger"]) for p in _matrices(m))
    width = vision.embed_dim if hasattr(vision, "embed_dim") else vision.hidden_size
    return Costs(
        token=token,
        pair=4.0 * text.num_attention_heads * head * attending,
        target=target,
        patch=patch,
        patch_pair=4.0 * width * vision.depth,
    )


def turns_cost(unit: PackedTurns, costs: Costs) -> float:
    """Operations of a forward pass over some turns in one row; those of a training step are proportional."""
    forest = build_forest(unit.turns)
    layout = forest.layout
    plans = [plan for each in forest.stretches for _, plan in media_of(each, unit.turns[each.turn].prompt)]
    targets = sum(len(turn.response_ids) for turn in unit.turns)
    return layout.length * costs.token + layout.pairs * costs.pair + targets * costs.target + costs.media(plans)


def _modules(roots: Iterable[torch.nn.Module]) -> Iterable[torch.nn.Module]:
    seen: dict[int, torch.nn.Module] = {id(module): module for root in roots for module in root.modules()}
    return seen.values()


def _matrices(module: torch.nn.Module) -> Iterable[torch.Tensor]:
    """Weights that a patch is multiplied with: of linear layers and of the convolution that is one over patches."""
    if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d)):
        yield module.weight
