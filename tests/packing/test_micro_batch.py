"""Turns packed into one row equal sequences of their own: log-probabilities and gradients."""

import dataclasses

import numpy as np
import pytest
import torch
from benchmarks.float64 import in_float64

from easyvideor1.attention import functions as attention
from easyvideor1.families.inputs import load_media
from easyvideor1.packing.logprobs import response_logprobs, response_values
from easyvideor1.packing.micro_batch import collate, to_device
from easyvideor1.packing.prefix_tree import pack_turns
from easyvideor1.types import DataError, Frames, Prompt
from tiny import load_frames, make_plan, make_prompt, make_turn, random_turns

pytestmark = pytest.mark.model


@pytest.fixture(params=["tree", "sdpa", "eager"])
def model(request, tiny_checkpoint, tiny_family):
    """One model under every attention: by parts, and with a dense mask in the two kinds that transformers has."""
    name = attention.register() if request.param == "tree" else request.param
    return load(tiny_checkpoint, tiny_family, name)


@pytest.fixture
def tree_model(tiny_checkpoint, tiny_family):
    return load(tiny_checkpoint, tiny_family, attention.register())


def load(checkpoint, family, name):
    return family.load_model(checkpoint, dtype=torch.float32, attention=name, trust_remote_code=False).eval()


@pytest.fixture(scope="module")
def groups(tiny_family):
    """Turns of three groups: a video with ragged responses, one of them empty; an image alone; text."""
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=5))
    image = make_prompt(tiny_family, "<image>?", make_plan("image", height=32, width=96))
    both = make_prompt(tiny_family, "<image> or <video>?", make_plan("image", seed=1), make_plan("video", frames=2))
    text = make_prompt(tiny_family, "What is red? Say it in words.")
    return [
        *random_turns(video, [5, 1, 0, 9], seed=1),
        *random_turns(image, [4], seed=2),
        *random_turns(both, [3, 3], seed=3),
        *random_turns(text, [2, 7], seed=4),
    ]


@pytest.fixture(scope="module")
def conversations(tiny_family):
    """Turns of three conversations over one video, whose second prompts hold the first responses; one adds an image."""
    first = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=5))
    turns = random_turns(first, [12, 20, 9], seed=1)
    ending = make_prompt(tiny_family, "And now?").token_ids
    image = make_prompt(tiny_family, "Look: <image>?", make_plan("image", seed=4))
    later = []
    for number, turn in enumerate(turns):
        past = np.concatenate([first.token_ids, turn.response_ids])
        more = ending
        spans, refs, plans = first.spans, first.media, first.plans
        if number == 1:
            more, refs, plans = image.token_ids, refs + image.media, plans + image.plans
            spans += tuple(dataclasses.replace(s, media=1, start=s.start + len(past)) for s in image.spans)
        later += random_turns(Prompt(np.concatenate([past, more]), refs, plans, spans), [6, 3], seed=number)
    return [*turns, *later]


def by_turn(family, model, turns, rows, temperature=1.0):
    """Log-probabilities of every turn, whatever rows they travelled in."""
    batch = collate(rows, family, load_frames)
    values, _ = response_logprobs(family, model, batch, temperature=temperature)
    return [values[batch.sequence == n] for n in range(len(turns))]


def gradients(model, per_turn):
    """Of a sum that weighs every token differently."""
    model.zero_grad()
    weights = torch.linspace(-1, 1, sum(map(len, per_turn)), dtype=per_turn[0].dtype)
    (torch.cat(per_turn) * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def compare(family, model, turns):
    """Largest absolute difference of log-probs, and of gradients relative to the largest gradient."""
    shared = pack_turns(turns, share_prefix=True)
    separate = pack_turns(turns, share_prefix=False)
    assert len(separate) == len(turns) > len(shared)
    first, second = (by_turn(family, model, turns, rows) for rows in (shared, separate))
    assert [len(values) for values in first] == [len(turn.response_ids) for turn in turns]
    apart = max((a - b).abs().max().item() for a, b in zip(first, second, strict=True) if len(a))
    one, two = gradients(model, first), gradients(model, second)
    assert one.keys() == two.keys() and max(g.abs().max() for g in one.values()) > 1e-3
    total = torch.sqrt(sum(g.square().sum() for g in one.values()))
    return apart, (torch.sqrt(sum((one[name] - two[name]).square().sum() for name in one)) / total).item()


@pytest.mark.parametrize("turns", ["groups", "conversations"])
def test_one_row_is_separate_sequences(tiny_family, model, turns, request):
    apart, relative = compare(tiny_family, model, request.getfixturevalue(turns))
    assert apart < 1e-5 and relative < 1e-4


@pytest.mark.parametrize("turns", ["groups", "conversations"])
def test_in_float64_nothing_but_the_order_of_sums_differs(tiny_family, tree_model, turns, request):
    with in_float64(tree_model):
        apart, relative = compare(tiny_family, tree_model, request.getfixturevalue(turns))
    assert apart < 1e-9 and relative < 1e-9


@pytest.mark.parametrize("turns", ["groups", "conversations"])
@torch.no_grad()
def test_values_of_one_row_are_those_of_separate_sequences(tiny_family, tree_model, turns, request):
    turns = request.getfixturevalue(turns)
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 1)
    found = []
    for share in (True, False):
        batch = collate(pack_turns(turns, share_prefix=share), tiny_family, load_frames)
        values = response_values(tiny_family, tree_model, head, batch)
        found.append([values[batch.sequence == n] for n in range(len(turns))])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    assert torch.cat(found[0]).std() > 0.01


def test_a_conversation_is_computed_once(tiny_family, tree_model, conversations):
    calls = []
    tree_model.model.visual.register_forward_pre_hook(lambda _, values: calls.append(len(values[0])))
    batch = collate(pack_turns(conversations, share_prefix=True), tiny_family, load_frames)
    by_turn(tiny_family, tree_model, conversations, pack_turns(conversations, share_prefix=True))
    first = conversations[0].prompt
    added = sum(len(t.prompt) - len(first) for t in conversations[3::2]) + sum(
        len(t.response_ids) - 1 for t in conversations[3:]
    )
    assert batch.input_ids.shape == (1, len(first) + added)
    patches = sum(int(np.prod(plan.grid)) for plan in conversations[5].prompt.plans)
    assert calls == [patches]


def test_checkpointed_layers_see_the_same(tiny_family, tree_model, groups):
    rows = pack_turns(groups, share_prefix=True)
    expected = gradients(tree_model, by_turn(tiny_family, tree_model, groups, rows))
    tree_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    tree_model.train()
    found = gradients(tree_model, by_turn(tiny_family, tree_model, groups, rows))
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6)


def test_no_mask_is_made_for_a_packed_row(tiny_family, tree_model, groups, monkeypatch):
    def refuse(_):
        raise AssertionError("a dense mask of the whole row")

    monkeypatch.setattr(attention, "dense_mask", refuse)
    monkeypatch.setattr("easyvideor1.packing.micro_batch.dense_mask", refuse)
    by_turn(tiny_family, tree_model, groups, pack_turns(groups, share_prefix=True))


@torch.no_grad()
def test_frozen_parts_change_no_gradient_of_the_rest(tiny_family, tree_model, groups):
    rows = pack_turns(groups, share_prefix=True)
    with torch.enable_grad():
        expected = gradients(tree_model, by_turn(tiny_family, tree_model, groups, rows))
        for frozen in ("vision", "language"):
            for module in tiny_family.groups(tree_model)[frozen]:
                module.requires_grad_(False)
            found = gradients(tree_model, by_turn(tiny_family, tree_model, groups, rows))
            assert found and len(found) < len(expected)
            for name, gradient in found.items():
                torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-6)
            tree_model.requires_grad_(True)


@torch.no_grad()
def test_company_in_the_row_changes_nothing(tiny_family, tree_model, groups):
    rows = pack_turns(groups, share_prefix=True)
    together = by_turn(tiny_family, tree_model, groups, rows)
    for row in rows:
        alone = by_turn(tiny_family, tree_model, groups, [row])
        for n in row.sequences:
            torch.testing.assert_close(together[n], alone[n], rtol=0, atol=1e-5)


@torch.no_grad()
def test_siblings_do_not_see_each_other(tiny_family, model, groups):
    before = by_turn(tiny_family, model, groups, pack_turns(groups, share_prefix=True))
    changed = list(groups)
    changed[0] = make_turn(groups[0].prompt, groups[0].response_ids[::-1])
    after = by_turn(tiny_family, model, changed, pack_turns(changed, share_prefix=True))
    for n in range(1, len(groups)):
        torch.testing.assert_close(before[n], after[n], rtol=0, atol=1e-6)
    assert (before[0] - after[0]).abs().max() > 1e-3


def test_a_response_alone_is_a_plain_causal_row(tiny_family, groups):
    (row,) = pack_turns(groups[:1], share_prefix=True)
    batch = collate([row], tiny_family, load_frames)
    prompt, response = groups[0].prompt, groups[0].response_ids
    assert batch.input_ids[0].tolist() == [*prompt.token_ids, *response[:-1]]
    assert torch.equal(batch.attention_mask()[0, 0], torch.ones(row.row_length, row.row_length).tril().bool())
    assert batch.predictor_columns.tolist() == list(range(len(prompt) - 1, len(prompt) - 1 + len(response)))
    assert batch.targets.tolist() == response.tolist()
    following = tiny_family.positions(prompt)[1]
    assert batch.positions[:, 0, len(prompt) :].tolist() == [list(range(following, following + len(response) - 1))] * 3


def test_engine_logprobs_travel_with_their_tokens(tiny_family, groups):
    prompt = groups[0].prompt
    turns = [
        make_turn(prompt, [40, 41, 42], mask=[True, False, True], logprobs=[-0.1, -0.2, -0.3]),
        make_turn(prompt, [43, 44]),
    ]
    batch = collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)
    np.testing.assert_array_equal(batch.engine_logprobs.numpy(), np.float32([-0.1, -0.2, -0.3, np.nan, np.nan]))
    assert batch.sequence.tolist() == [0, 0, 0, 1, 1]
    moved = to_device(batch, torch.device("cpu"))
    kept = {f.name for f in dataclasses.fields(batch) if getattr(moved, f.name) is not None}
    assert kept == {f.name for f in dataclasses.fields(batch)} - {"split"}, "which is of several ranks"


def test_positions_that_depend_on_what_follows_are_not_shared(tiny_family, groups):
    class Backwards(type(tiny_family)):
        """A family that counts positions from the end."""

        def positions(self, prompt):
            found, first = super().positions(prompt)
            return found - len(prompt.token_ids), first

    first = groups[0].prompt
    longer = dataclasses.replace(first, token_ids=np.concatenate([first.token_ids, [40, 41]]))
    family = Backwards.__new__(Backwards)
    family.__dict__.update(tiny_family.__dict__)
    with pytest.raises(RuntimeError, match="positions of Backwards depend on later tokens"):
        collate(pack_turns([make_turn(first, [40]), make_turn(longer, [42])], share_prefix=True), family, load_frames)


def test_rows_of_their_own_are_padded_behind(tiny_family, groups):
    turns = groups[:2]
    batch = collate(pack_turns(turns, share_prefix=False), tiny_family, load_frames)
    lengths = [len(turn.prompt) + len(turn.response_ids) - 1 for turn in turns]
    assert batch.layout is None and batch.input_ids.shape == (2, max(lengths))
    assert (batch.input_ids[1, lengths[1] :] == tiny_family.pad_token_id).all()
    mask = batch.attention_mask()[1, 0]
    assert torch.equal(mask[: lengths[1]], torch.ones_like(mask).tril()[: lengths[1]])
    assert mask[lengths[1] :, lengths[1] :].any(-1).all()  # no query is left without a key


def test_frames_that_are_not_the_plans_are_refused(groups):
    prompt = groups[0].prompt

    def cropped(ref, plan):
        return Frames(load_frames(ref, plan).pixels[:, :32], plan)

    def other(ref, plan):
        return Frames(load_frames(ref, plan).pixels, make_plan("video", frames=5, seed=9))

    for load in (cropped, other):
        with pytest.raises(DataError, match=rf"{prompt.plans[0].digest[:12]} came as .*12 visual tokens.*cache verify"):
            load_media(prompt, load)
