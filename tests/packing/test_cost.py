"""The estimate of work against a count of the products that a forward pass makes."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from easyvideor1.attention import functions as attention
from easyvideor1.packing.balance import model_costs, turns_cost
from easyvideor1.packing.logprobs import response_logprobs
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from tiny import load_frames, make_plan, make_prompt, random_turns

pytestmark = pytest.mark.model

CASES = {
    "text": ("What is red? Say it in words.", (), [3, 9]),
    "image": ("<image>What?", (make_plan("image", height=96, width=64),), [5]),
    "video": ("<video>What moves?", (make_plan("video", frames=6, height=96, width=96),), [30, 20, 40]),
    "both": ("<image><video>?", (make_plan("image"), make_plan("video", frames=3)), [1, 1]),
}


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_it_is_the_count_of_a_forward_pass(tiny_checkpoint, tiny_family, case):
    """Products and convolutions as torch counts them, and the pairs of attention, which it counts for its own mask."""
    text, plans, lengths = CASES[case]
    model = tiny_family.load_model(
        tiny_checkpoint, dtype=torch.float32, attention=attention.register(), trust_remote_code=False
    ).eval()
    (unit,) = pack_turns(random_turns(make_prompt(tiny_family, text, *plans), lengths, seed=1), share_prefix=True)
    batch = collate([unit], tiny_family, load_frames)
    with FlopCounterMode(display=False) as counter:
        response_logprobs(tiny_family, model, batch)
    counted = counter.get_flop_counts()["Global"]
    products = sum(flops for operation, flops in counted.items() if "attention" not in str(operation))
    costs = model_costs(tiny_family, model)
    pairs = batch.layout.pairs * costs.pair
    pairs += sum(costs.patch_pair * plan.grid[0] * (plan.grid[1] * plan.grid[2]) ** 2 for plan in plans)
    assert turns_cost(unit, costs) == pytest.approx(products + pairs, rel=0.02)
    config = model.config.text_config
    assert costs.pair == 4 * config.num_attention_heads * config.head_dim * config.num_hidden_layers
