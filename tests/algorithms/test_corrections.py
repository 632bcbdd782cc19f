"""Corrections of the distance between engine and trainer, by hand and by what they are for."""

import math

import pytest
import torch
from tests.algorithms.batches import float64, stage

from easyvideor1.algorithms.corrections import CORRECTIONS

NAN = math.nan
#: Ratios of trainer to engine: 1.5, 0.5, unknown | 4, 1 | unknown.
RATIO = [1.5, 0.5, 9.0, 4.0, 1.0, 9.0]
ENGINE = float64([-1.0, -2.0, NAN, -3.0, -1.0, NAN])
TRAINER = float64([-1.0 + math.log(1.5), -2.0 + math.log(0.5), -4.0, -3.0 + math.log(4), -1.0, -2.0])
SEQUENCE = torch.tensor([3, 3, 3, 5, 5, 8])

TABLE = {
    "none": [1, 1, 1, 1, 1, 1],
    "tis": [1.5, 0.5, 1, 2, 1, 1],
    "tis_sequence": [0.75, 0.75, 0.75, 2, 2, 1],
    "icepop": [1.5, 0, 1, 0, 1, 1],
    "sequence_mask": [0.75, 0.75, 0.75, 0, 0, 1],
    "geometric_mask": [1, 1, 1, 1, 1, 1],  # roots: sqrt(0.75), sqrt(4), 1
}
BOUNDS = {"correction": {"low": 0.6, "high": 3.0}}


def run(name, trainer=TRAINER, engine=ENGINE, sequence=SEQUENCE, **options):
    bounds = BOUNDS if name in ("icepop", "sequence_mask", "geometric_mask") else {}
    chosen = stage({"correction": name}, bounds, options).correction
    return CORRECTIONS.resolve(name)(trainer, engine, sequence, chosen)


def test_every_correction_has_a_table():
    assert CORRECTIONS.names() == sorted(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_table(name):
    weights, metrics = run(name)
    assert weights.tolist() == pytest.approx(TABLE[name], rel=1e-9)
    assert all(value.shape == (6,) for value in metrics.values())
    if name != "none":
        assert torch.equal(metrics["mismatch/weight"], weights)


@pytest.mark.parametrize(
    ("name", "changed"),
    [("tis", [3]), ("tis_sequence", [3, 4]), ("icepop", [1, 3]), ("sequence_mask", [3, 4]), ("geometric_mask", [])],
)
def test_what_was_corrected_is_counted(name, changed):
    found = run(name)[1]["mismatch/corrected"]
    assert found.nonzero().squeeze(1).tolist() == changed


def test_a_tight_geometric_mask():
    weights, _ = run("geometric_mask", correction={"low": 0.9, "high": 1.1})
    assert weights.tolist() == [0, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("name", TABLE)
def test_where_both_agree_or_nothing_is_known_nothing_changes(name):
    same, _ = run(name, trainer=TRAINER, engine=TRAINER)
    unknown, _ = run(name, engine=torch.full((6,), NAN, dtype=torch.float64))
    assert same.tolist() == unknown.tolist() == [1.0] * 6


@pytest.mark.parametrize("name", TABLE)
def test_no_gradient_goes_through_and_extremes_are_finite(name):
    trainer = torch.tensor([-900.0, -1.0, 0.0, -1.0, -1.0, -1.0]).requires_grad_()
    weights, _ = run(name, trainer=trainer, engine=torch.tensor([-1.0, -900.0, -2.0, -1.0, -1.0, -1.0]))
    assert not weights.requires_grad and weights.isfinite().all()


def test_importance_weights_make_an_engines_sample_the_trainers():
    """The mean of f under the engine, weighted without truncation, is the mean of f under the trainer."""
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.softmax(torch.randn(5, generator=generator, dtype=torch.float64), 0) for _ in range(2))
    f = torch.randn(5, generator=generator, dtype=torch.float64)
    weights, _ = run("tis", trainer=p.log(), engine=q.log(), sequence=torch.arange(5), correction={"cap": 1e9})
    assert (q * weights * f).sum().item() == pytest.approx((p * f).sum().item(), rel=1e-9)
    # and for whole sequences of two tokens, by their product
    pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    weights, _ = run(
        "tis_sequence", trainer=p.log()[pairs].flatten(), engine=q.log()[pairs].flatten(),
        sequence=torch.arange(25).repeat_interleave(2), correction={"cap": 1e9},
    )  # fmt: skip
    g = torch.randn(25, generator=generator, dtype=torch.float64)
    found = (q[pairs].prod(1) * weights.reshape(25, 2)[:, 0] * g).sum()
    assert found.item() == pytest.approx((p[pairs].prod(1) * g).sum().item(), rel=1e-9)
