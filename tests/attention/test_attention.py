"""Attention over packed rows equals attention with the mask that says who sees whom."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from easyvideor1.attention import functions as attention
from easyvideor1.attention import tree as tree_parts
from easyvideor1.attention.flex import block_mask, flex_tree_attention
from easyvideor1.attention.functions import attention_arguments, tree_attention
from easyvideor1.attention.layout import Layout, dense_mask
from easyvideor1.types import ConfigError

pytestmark = pytest.mark.model

#: A prompt with three continuations, the second of which branches again; then an unrelated text.
TREE = Layout(((0, 7, 20), (7, 10, 10), (10, 14, 19), (14, 17, 17), (17, 19, 19), (19, 20, 20), (20, 26, 26)), 26)

forests = st.recursive(
    st.tuples(st.integers(1, 5), st.just(())),
    lambda children: st.tuples(st.integers(1, 5), st.lists(children, max_size=3).map(tuple)),
    max_leaves=8,
)


def layout_of(trees):
    """The layout of trees given as ``(tokens, children)``, and per token the set of tokens that it may see."""
    stretches, visible = [], []

    def visit(tree, seen):
        tokens, children = tree
        start = len(visible)
        index = len(stretches)
        stretches.append(None)
        own = list(range(start, start + tokens))
        visible.extend(seen + own[: n + 1] for n in range(tokens))
        for child in children:
            visit(child, seen + own)
        stretches[index] = (start, start + tokens, len(visible))

    for tree in trees:
        visit(tree, [])
    return Layout(tuple(stretches), len(visible)), visible


def tensors(length, *, heads=4, shared=2, width=8, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, width), (1, shared, length, width), (1, shared, length, width)]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def plain(query, key, value, layout, scale):
    """Softmax by its formula under the dense mask."""
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], 1) for x in (key, value))
    scores = (query @ key.mT * scale).masked_fill(~dense_mask(layout.reach()[None]), -torch.inf)
    return scores.softmax(-1) @ value


def with_gradients(function, inputs, *arguments):
    out = function(*inputs, *arguments)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).reshape(out.shape).sin()
    return out.detach(), torch.autograd.grad((out * weights).sum(), inputs)


@given(st.lists(forests, min_size=1, max_size=3))
def test_a_token_sees_its_path_to_the_root_and_nothing_else(trees):
    layout, visible = layout_of(trees)
    mask = dense_mask(layout.reach()[None])[0, 0]
    assert [row.nonzero().flatten().tolist() for row in mask] == visible
    assert layout.pairs == sum(map(len, visible))


@given(st.lists(forests, min_size=1, max_size=3), st.sampled_from([(4, 4), (4, 2), (3, 1)]))
@settings(max_examples=40, deadline=None)
def test_it_is_masked_attention_for_any_forest(trees, heads):
    layout, _ = layout_of(trees)
    inputs = tensors(layout.length, heads=heads[0], shared=heads[1])
    (out, grads), (wanted, wanted_grads) = (with_gradients(f, inputs, layout, 0.3) for f in (tree_attention, plain))
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    for grad, right in zip(grads, wanted_grads, strict=True):
        torch.testing.assert_close(grad, right, rtol=0, atol=1e-12)


@pytest.mark.parametrize("width", [8, 32, 72, 128])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_it_is_near_in_every_precision(dtype, near, width):
    inputs = tensors(TREE.length, width=width, dtype=dtype)
    out, grads = with_gradients(tree_attention, inputs, TREE, width**-0.5)
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    wanted, wanted_grads = with_gradients(plain, exact, TREE, width**-0.5)
    assert out.dtype == dtype and (out.double() - wanted).abs().max() < near
    for grad, right in zip(grads, wanted_grads, strict=True):
        assert grad.dtype == dtype and (grad.double() - right).norm() < near * right.norm()


def test_outputs_in_bfloat16_are_rounded_once_at_every_join(monkeypatch):
    """Eight stretches, one behind the other. With each product rounded before the sum the error is 0.0031."""
    monkeypatch.setattr(tree_parts, "_JOINED", 50)  # several blocks, the last one shorter
    chain = Layout(tuple((start, start + 16, 128) for start in range(0, 128, 16)), 128)
    inputs = [tensor.detach() for tensor in tensors(128, width=64, dtype=torch.bfloat16)]
    wanted = plain(*(tensor.double() for tensor in inputs), chain, 0.125)
    error = (tree_attention(*inputs, chain, 0.125).double() - wanted).norm() / wanted.norm()
    assert error < 0.0028, error


def test_scores_that_overflow_a_plain_exponential():
    inputs = tensors(TREE.length)
    large = [inputs[0] * 60, inputs[1] * 60, inputs[2]]
    torch.testing.assert_close(tree_attention(*large, TREE, 1.0), plain(*large, TREE, 1.0), rtol=0, atol=1e-9)


def test_its_gradient_is_that_of_finite_differences():
    layout = Layout(((0, 3, 6), (3, 4, 4), (4, 6, 6)), 6)
    inputs = tensors(6, heads=2, shared=1, width=4)
    assert torch.autograd.gradcheck(lambda q, k, v: tree_attention(q, k, v, layout, 0.5), inputs)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_given_the_same_visibility():
    """Its uncompiled form: what a GPU would be asked for, on whatever machine this runs (no gradients on a CPU)."""
    inputs = [x.detach() for x in tensors(TREE.length, dtype=torch.float32, width=16)]
    out = flex_tree_attention(*inputs, TREE, 0.25, compiled=False)
    torch.testing.assert_close(out, plain(*inputs, TREE, 0.25), rtol=0, atol=2e-6)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_blocks_of_flex_attention_are_those_that_hold_visible_pairs(lengths, depth, random):
    """Against torch's own, which looks at every pair."""
    from torch.nn.attention.flex_attention import create_block_mask

    trees = [(length, tuple((random.randint(1, 200), ()) for _ in range(depth))) for length in lengths]
    layout, _ = layout_of(trees)
    ours = block_mask(layout, torch.device("cpu"))
    theirs = create_block_mask(ours.mask_mod, 1, 1, layout.length, layout.length, device="cpu")
    assert ours.seq_lengths == theirs.seq_lengths
    for kind in ("kv", "full_kv"):
        counts, wanted = getattr(ours, f"{kind}_num_blocks")[0, 0], getattr(theirs, f"{kind}_num_blocks")[0, 0]
        columns, right = getattr(ours, f"{kind}_indices")[0, 0], getattr(theirs, f"{kind}_indices")[0, 0]
        assert counts.tolist() == wanted.tolist()
        for row, count in enumerate(counts.tolist()):
            assert columns[row, :count].tolist() == right[row, :count].tolist()


def test_a_row_that_is_not_the_layouts_is_refused():
    with pytest.raises(ValueError, match="a layout of 26 tokens, but queries"):
        tree_attention(*tensors(25), TREE, 1.0)


def test_what_packed_rows_cannot_do_is_refused():
    inputs = tensors(TREE.length)
    for options in ({"dropout": 0.1}, {"sliding_window": 20}):
        with pytest.raises(ConfigError, match=r"set model\.attention to eager"):
            attention._attention_forward(None, *inputs, None, prefix_layout=TREE, **options)
    out, _ = attention._attention_forward(None, *inputs, None, prefix_layout=TREE, sliding_window=26)
    torch.testing.assert_close(out.transpose(1, 2), plain(*inputs, TREE, 8**-0.5), rtol=0, atol=1e-12)


def test_the_arguments_of_the_model_say_what_the_mask_says():
    mask = dense_mask(TREE.reach()[None])
    ours, sdpa, eager = (SimpleNamespace(_attn_implementation=n) for n in (attention.PREFIX_TREE, "sdpa", "eager"))
    assert attention_arguments(TREE, ours, torch.float32) == {"attention_mask": None, "prefix_layout": TREE}
    for config in (ours, sdpa):
        assert attention_arguments(mask, config, torch.float32)["attention_mask"] is mask
    added = attention_arguments(mask, eager, torch.bfloat16)["attention_mask"]
    assert added.dtype == torch.bfloat16 and torch.equal(added == 0, mask) and torch.isfinite(added).all()
    with pytest.raises(ValueError, match="this model has 'sdpa'"):
        attention_arguments(TREE, sdpa, torch.float32)
