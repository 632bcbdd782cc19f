"""A decoding step of responses that branch off their prompts, against attention to every text by itself."""

import pytest
import torch

from easyvideor1.attention.branches import FIRST_STATIC, Branches, BranchKeys

HEADS, GROUPS, WIDTH = 2, 3, 8
SCALE = WIDTH**-0.5


class Texts:
    """Prompts and responses of random keys, whole."""

    def __init__(self, lengths, parents, said, dtype=torch.float32):
        self.generator = torch.Generator().manual_seed(len(parents))
        self.dtype = dtype
        self.prompts = [self.draw(2, HEADS, length, WIDTH) for length in lengths]
        self.parents = list(parents)
        self.own = [self.draw(2, HEADS, said, WIDTH) for _ in parents]

    def draw(self, *shape):
        return torch.randn(*shape, generator=self.generator).to(self.dtype)

    def keys(self, limit, static):
        """The keys as a prefill of one row gives them."""
        parts = [*self.prompts, *self.own]
        row = torch.cat(parts, dim=2)
        starts = torch.tensor([0, *(part.shape[2] for part in parts)]).cumsum(0)
        lengths = torch.tensor([prompt.shape[2] for prompt in self.prompts])
        columns = torch.arange(int(lengths.max()))
        prompts = torch.where(columns < lengths[:, None], starts[: len(lengths), None] + columns, 0)
        said = torch.arange(self.own[0].shape[2])
        own = starts[len(lengths) : -1, None] + said
        keys = BranchKeys(Branches(prompts, lengths, own, torch.tensor(self.parents)), None, limit=limit, static=static)
        keys.keep(0, row[0][None], row[1][None])
        keys.filled()
        return keys

    def step(self, keys):
        """Adds a token to every response; the outcome of the keys, and of whole texts in float64."""
        count = len(self.parents)
        query = self.draw(1, HEADS * GROUPS, count, WIDTH)
        new = self.draw(2, HEADS, count, WIDTH)
        keys.reserve(1)
        keys.begin(torch.tensor([keys.length]))
        out = keys.attend(0, query, new[0][None], new[1][None], SCALE)
        keys.length += 1
        self.own = [torch.cat([own, new[:, :, i, None]], dim=2) for i, own in enumerate(self.own)]
        wanted = []
        for i, parent in enumerate(self.parents):
            key, value = torch.cat([self.prompts[parent], self.own[i]], dim=2).double().repeat_interleave(GROUPS, 1)
            weights = torch.softmax(SCALE * torch.einsum("hd,hsd->hs", query[0, :, i].double(), key), -1)
            wanted.append(torch.einsum("hs,hsd->hd", weights, value))
        return out, torch.stack(wanted)[None]

    def select(self, keys, kept):
        keys.select(torch.tensor(kept))
        self.own, parents = [self.own[i] for i in kept], [self.parents[i] for i in kept]
        here = sorted(set(parents))
        self.prompts, self.parents = [self.prompts[i] for i in here], [here.index(i) for i in parents]


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("said", [0, 3])
@pytest.mark.parametrize("parents", [[0, 0, 1, 1, 2, 2], [0, 1, 1, 1, 2], [0], [0, 0, 0]], ids=str)
def test_a_step_is_one_softmax_over_prompt_and_own_tokens(parents, said, static):
    texts = Texts([5, 1, 9][: max(parents) + 1], parents, said)
    keys = texts.keys(limit=20, static=static)
    for _ in range(4):
        out, wanted = texts.step(keys)
        torch.testing.assert_close(out.double(), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("static", [False, True])
def test_responses_leave_and_buffers_grow(static):
    texts = Texts([4, 7, 2, 7], [0, 0, 0, 1, 1, 2, 3, 3], 0)
    keys = texts.keys(limit=3 * FIRST_STATIC, static=static)
    leaving = {3: [0, 2, 3, 4, 5, 7], 5: [0, 1, 4, 5], FIRST_STATIC + 2: [0, 2], 2 * FIRST_STATIC + 1: [1]}
    for step in range(3 * FIRST_STATIC):
        if step in leaving:
            texts.select(keys, leaving[step])
        out, wanted = texts.step(keys)
        torch.testing.assert_close(out.double(), wanted, rtol=0, atol=2e-6)
    assert keys.length == 3 * FIRST_STATIC and not keys.reserve(1)


def test_sixteen_bits_are_within_their_rounding():
    texts = Texts([6, 3], [0, 0, 1], 2, dtype=torch.bfloat16)
    keys = texts.keys(limit=10, static=False)
    for _ in range(3):
        out, wanted = texts.step(keys)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.double(), wanted, rtol=0, atol=2e-2)
