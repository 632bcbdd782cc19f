"""Log-probabilities, entropy and KL of response tokens against their formulas, forward and backward."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from easyvideor1.packing import logprobs
from easyvideor1.packing.logprobs import (
    hidden_full_kl,
    hidden_logprobs,
    masked_logits,
    response_hidden,
    response_logprobs,
)
from easyvideor1.packing.micro_batch import collate
from easyvideor1.packing.prefix_tree import pack_turns
from tiny import load_frames, make_plan, make_prompt, random_turns

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def batch(tiny_family):
    video = make_prompt(tiny_family, "<video>What moves?", make_plan("video", frames=5))
    text = make_prompt(tiny_family, "What is red?")
    turns = [*random_turns(video, [5, 1, 0, 9], seed=1), *random_turns(text, [7], seed=2)]
    return collate(pack_turns(turns, share_prefix=True), tiny_family, load_frames)


def plain(family, model, hidden, targets, temperature):
    """The formulas, in float64, over the tokens that may be sampled."""
    logits = (hidden.double() @ model.lm_head.weight.double().T) / temperature
    allowed = torch.ones(logits.shape[-1], dtype=torch.bool)
    allowed[list(family.visual_token_ids)] = False
    log = logits[:, allowed].log_softmax(-1)
    place = allowed.cumsum(0) - 1
    return log.gather(-1, place[targets][:, None]).squeeze(-1), -(log.exp() * log).sum(-1)


@pytest.mark.parametrize("chunk", [1, 3, 5, 1000])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_values_and_gradients_are_those_of_the_formula(tiny_family, tiny_model, monkeypatch, temperature, chunk):
    vocabulary = tiny_model.config.text_config.vocab_size
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", chunk * vocabulary)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 64, generator=generator).requires_grad_()
    targets = torch.randint(7, 290, (11,), generator=generator)
    weights = torch.randn(2, 11, generator=generator)
    weight = tiny_model.lm_head.weight
    found, wanted = [], []
    for function, into in ((hidden_logprobs, found), (plain, wanted)):
        if function is plain:
            values = plain(tiny_family, tiny_model, hidden, targets, temperature)
        else:
            values = function(tiny_family, tiny_model, hidden, targets, temperature=temperature)
        loss = sum((w * v).sum() for w, v in zip(weights, values, strict=True))
        into += [*values, *torch.autograd.grad(loss, [hidden, weight])]
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one.double(), two.double(), rtol=1e-4, atol=2e-5)


def test_one_of_the_two_may_be_asked_for_alone(tiny_family, tiny_model):
    hidden = torch.randn(5, 64).requires_grad_()
    targets = torch.arange(40, 45)
    for index in (0, 1):
        values = hidden_logprobs(tiny_family, tiny_model, hidden, targets)[index]
        wanted = plain(tiny_family, tiny_model, hidden, targets, 1.0)[index]
        (found,), (right,) = (torch.autograd.grad(v.sum(), [hidden]) for v in (values, wanted))
        torch.testing.assert_close(found, right, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_temperature_and_banned_tokens_of_a_whole_pass(tiny_family, tiny_model, batch):
    values, spread = response_logprobs(tiny_family, tiny_model, batch, temperature=0.7)
    hidden = response_hidden(tiny_family, tiny_model, batch)
    expected, entropies = plain(tiny_family, tiny_model, hidden, batch.targets, 0.7)
    torch.testing.assert_close(values.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(spread.double(), entropies, rtol=0, atol=1e-5)


def test_an_excluded_token_is_impossible_and_harms_no_gradient(tiny_family, tiny_model):
    hidden = torch.randn(3, 64).requires_grad_()
    targets = torch.tensor([40, tiny_family.video_token_id, 41])
    values, entropy = hidden_logprobs(tiny_family, tiny_model, hidden, targets)
    assert values[1] == -torch.inf and values[[0, 2]].isfinite().all()
    loss = torch.where(targets == tiny_family.video_token_id, 0.0, values).sum() + entropy.sum()
    (grad,) = torch.autograd.grad(loss, [hidden])
    assert grad.isfinite().all() and grad.abs().max() > 0


@pytest.mark.parametrize("frozen", ["head", "hidden"])
def test_what_is_frozen_gets_no_gradient_and_changes_none(tiny_family, tiny_model, frozen):
    hidden = torch.randn(6, 64).requires_grad_(frozen != "hidden")
    targets = torch.arange(50, 56)
    tiny_model.lm_head.weight.requires_grad_(frozen != "head")
    values, _ = hidden_logprobs(tiny_family, tiny_model, hidden, targets)
    values.sum().backward()
    found = tiny_model.lm_head.weight.grad if frozen == "hidden" else hidden.grad
    assert (tiny_model.lm_head.weight.grad is None) == (frozen == "head")
    assert (hidden.grad is None) == (frozen == "hidden")
    leaf = tiny_model.lm_head.weight if frozen == "hidden" else hidden
    (right,) = torch.autograd.grad(plain(tiny_family, tiny_model, hidden, targets, 1.0)[0].sum(), [leaf])
    torch.testing.assert_close(found, right, rtol=1e-4, atol=2e-5)


class Peak(TorchDispatchMode):
    """The most bytes of tensors made within that were alive at once."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known:
                    size, key = storage.nbytes(), storage._cdata
                    self.known.add(key)
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self.gone, key, size)
        return out

    def gone(self, key, size):
        self.known.discard(key)
        self.now -= size


def test_memory_does_not_grow_with_tokens_times_vocabulary(tiny_family, tiny_model, monkeypatch):
    vocabulary = tiny_model.config.text_config.vocab_size
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", 8 * vocabulary)
    peaks = []
    for tokens in (64, 1024):
        hidden = torch.randn(tokens, 64).requires_grad_()
        with Peak() as peak:
            values, _ = hidden_logprobs(tiny_family, tiny_model, hidden, torch.full((tokens,), 40))
            values.sum().backward()
        peaks.append(peak.most)
    # 960 more tokens: a few hidden-sized tensors each way, where logits alone would be 960 * vocabulary * 4.
    assert peaks[1] - peaks[0] < 960 * (64 * 4 * 3 + 64) < 960 * vocabulary * 4


def test_a_chunk_is_gone_when_the_next_one_begins(tiny_family, tiny_model, monkeypatch):
    """Its gradient of the output matrix, which is as large as the matrix, above all."""
    monkeypatch.setattr(logprobs, "chunk_tokens", lambda model: 4)
    matrix = tiny_model.lm_head.weight
    peaks = []
    for tokens in (4, 8):
        hidden = torch.randn(tokens, 64).requires_grad_()
        with Peak() as peak:
            values, _ = hidden_logprobs(tiny_family, tiny_model, hidden, torch.full((tokens,), 40))
            values.sum().backward()
        peaks.append(peak.most)
        matrix.grad = None
    assert matrix.requires_grad and peaks[1] - peaks[0] < matrix.nbytes / 4


@pytest.mark.parametrize("chunk", [2, 1000])
def test_kl_over_the_vocabulary(tiny_family, tiny_model, monkeypatch, chunk):
    monkeypatch.setattr(logprobs, "CHUNK_LOGITS", chunk * tiny_model.config.text_config.vocab_size)
    hidden, other = torch.randn(5, 64).requires_grad_(), torch.randn(5, 64)
    found = hidden_full_kl(tiny_family, tiny_model, tiny_model, hidden, other, temperature=0.9)
    allowed = [v for v in range(tiny_model.config.text_config.vocab_size) if v not in tiny_family.visual_token_ids]
    p, q = (
        masked_logits(tiny_family, tiny_model, x, 0.9)[:, allowed].double().log_softmax(-1) for x in (hidden, other)
    )
    wanted = (p.exp() * (p - q)).sum(-1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    grads = [torch.autograd.grad(v.sum(), [hidden, tiny_model.lm_head.weight])[0] for v in (found, wanted)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-4, atol=1e-5)
