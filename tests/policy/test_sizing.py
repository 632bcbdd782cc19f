"""Predicted memory and arithmetic against what torch allocates and counts."""

import pytest
import torch
from benchmarks.fit import Case, measured, predicted, write
from torch.utils.flop_counter import FlopCounterMode

from easyvideor1.config import ModelConfig
from easyvideor1.families.family import load_family
from easyvideor1.families.tiny import TINY_FAMILIES
from easyvideor1.packing.balance import model_costs
from easyvideor1.packing.logprobs import masked_logits
from easyvideor1.policy.sizing.curves import Curve, Highest
from easyvideor1.policy.sizing.devices import named_device
from easyvideor1.policy.sizing.measure import measure_model
from easyvideor1.policy.sizing.memory import Placement, held
from easyvideor1.policy.sizing.meter import Meter, without_memory
from easyvideor1.policy.sizing.prediction import largest_that_fits
from easyvideor1.types import ConfigError

pytestmark = pytest.mark.model

SMALL = {"width": 128, "layers": 2, "vocabulary": 400, "frames": 8, "side": 192, "tokens": 64, "prompts": 1}
CASES = {
    "one micro-batch": Case(**SMALL),
    "several, checkpointed": Case(
        **SMALL | {"prompts": 2}, model={"gradient_checkpointing": True}, stage={"micro_batch_tokens": 300}
    ),
    "tower in chunks, offloaded": Case(
        **SMALL, model={"gradient_checkpointing": True, "offload": ["activations", "optimizer"], "vision_chunk": 36}
    ),
    "MLPs in chunks": Case(**SMALL | {"width": 256}, model={"gradient_checkpointing": True, "mlp_chunk": 64}),
    "bfloat16, tower frozen": Case(**SMALL, model={"dtype": "bfloat16", "freeze": ["vision", "merger"]}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_peak_of_an_update_is_what_the_allocator_gives_out(name, tmp_path):
    case = CASES[name]
    checkpoint = write(case, tmp_path / "model")
    parts = predicted(case, checkpoint)
    assert sum(parts.values()) == pytest.approx(measured(case, checkpoint), rel=0.1), parts


def checkpointed(checkpoint, **settings):
    config = ModelConfig(path=str(checkpoint), device="cpu", gradient_checkpointing=True, **settings)
    return measure_model(load_family(checkpoint), config, checkpoint)


def test_inputs_of_layers_leave_the_device(tmp_path):
    """All of them but none of the rest: a number per token, layer and channel."""
    case = Case(**SMALL)
    checkpoint = write(case, tmp_path / "model")
    plain, offloaded = (checkpointed(checkpoint, offload=parts) for parts in ((), ("activations",)))
    inputs = 4 * 1000 * case.layers * case.width
    assert plain.language.host.at(1000) == 0
    assert offloaded.language.host.at(1000) == pytest.approx(inputs)
    saved = plain.language.kept.at(1000) - offloaded.language.kept.at(1000)
    assert saved == pytest.approx(inputs, rel=0.01)


@pytest.mark.parametrize(
    ("fault", "said", "words"),
    [
        (RuntimeError("no numbers"), ConfigError, "do not run on tensors without memory .RuntimeError: no numbers"),
        (AttributeError("a fault of ours"), AttributeError, "a fault of ours"),
    ],
    ids=["of torch", "of ours"],
)
def test_faults_of_ours_are_not_taken_for_those_of_a_family(tiny_checkpoint, fault, said, words):
    class Faulty(type(load_family(tiny_checkpoint))):
        def decode(self, *_):
            raise fault

    family = load_family(tiny_checkpoint)
    family.__class__ = Faulty
    with pytest.raises(said, match=words):
        measure_model(family, ModelConfig(path=str(tiny_checkpoint), device="cpu"), tiny_checkpoint)


def test_a_family_with_its_tower_elsewhere_is_refused(tiny_checkpoint):
    class Moved(type(load_family(tiny_checkpoint))):
        def load_model(self, *arguments, **options):
            model = super().load_model(*arguments, **options)
            model.model.visual.layers = model.model.visual.blocks
            del model.model.visual.blocks
            return model

    family = load_family(tiny_checkpoint)
    family.__class__ = Moved
    with pytest.raises(
        ConfigError, match=r"the memory of Moved cannot be predicted: it has no layers at model\.visual"
    ):
        measure_model(family, ModelConfig(path=str(tiny_checkpoint), device="cpu"), tiny_checkpoint)


def test_what_ranks_share_is_divided_among_them(tmp_path):
    case = Case(**SMALL)
    checkpoint = write(case, tmp_path / "model")
    sizes = measure_model(load_family(checkpoint), ModelConfig(path=str(checkpoint), device="cpu"), checkpoint)
    (whole, nothing), (part, _) = held(sizes, Placement()), held(sizes, Placement(4, 4))
    assert nothing.weights == nothing.moments == 0 and whole.weights == sizes.weights
    vocabulary = 4 * sizes.vocabulary * case.width  # embeddings, tied to the matrix of the logits
    assert part.weights - vocabulary == pytest.approx((whole.weights - vocabulary) / 4, rel=0.01)
    assert part.gradients == part.weights and part.moments == 2 * part.weights
    device, host = held(sizes, Placement(4, 4, ("parameters", "optimizer")))
    assert device.weights == pytest.approx(vocabulary) and device.moments == 0
    assert host.weights + device.weights == part.weights and host.moments == part.moments


def test_the_meter_counts_what_is_made_and_freed():
    with without_memory(), Meter() as meter:
        first = torch.zeros(1000)
        view = first[:10]
        assert meter.live == 4000
        second = first + 1
        del first
        assert meter.live == 8000, "the view keeps it"
        del view
        assert meter.live == 4000
        assert meter.take_peak() == 8000
        assert meter.take_peak() == 4000
        del second
    assert meter.live == 0


def test_mlps_in_chunks_take_less_of_long_rows_alone(tmp_path):
    case = Case(**SMALL)
    checkpoint = write(case, tmp_path / "model")
    plain, chunked = (checkpointed(checkpoint, mlp_chunk=size) for size in (0, 512))
    assert chunked.decoder(512) == plain.decoder(512)
    before, after = (sizes.decoder(10_000).backward.at(10_000) for sizes in (plain, chunked))
    # Beside the MLP, whose inner width is twice the model's here, norms and attention stay.
    assert after < 0.75 * before
    mlp = 3 * 2 * 2 * case.width * case.width * case.layers
    assert (plain.computed_again, chunked.computed_again) == (0, mlp)


def test_the_worst_moment_of_a_long_row_is_another_one():
    of_weights, of_tokens = Curve(1000.0, 2.0), Curve(10.0, 3.0)
    highest = Highest((of_weights, of_tokens))
    assert highest.at(100) == of_weights.at(100) and highest.at(10_000) == of_tokens.at(10_000)
    assert highest.at(0) == Highest().at(5) == 0.0


def test_a_curve_goes_through_its_points():
    assert Curve.through((1, 2, 4), (10.0, 17.0, 43.0)) == Curve(7.0, 1.0, 2.0)
    assert Curve.through((10, 20), (25.0, 45.0)).at(100) == 205.0
    assert Curve(5.0).at(0) == 0.0


@pytest.mark.parametrize("family", [name for name in TINY_FAMILIES if "qwen3_5" not in name])
@torch.no_grad()
def test_operations_are_those_that_torch_counts(family, family_checkpoints):
    """With eager attention all pairs are products, those above the diagonal too, so all of them are counted."""
    adapter = load_family(family_checkpoints[family])
    model = adapter.load_model(
        family_checkpoints[family], dtype=torch.float32, attention="eager", trust_remote_code=False
    )
    if "moe" in family:  # else experts are one grouped product, which torch does not count
        model.set_experts_implementation("eager")
    costs, length = model_costs(adapter, model.eval()), 48
    ids = torch.arange(length)[None] + 10
    positions = torch.arange(length).expand(3, 1, length)
    with FlopCounterMode(display=False) as counter:
        hidden = adapter.decode(model, adapter.embed(model, ids, None), positions, None)
        masked_logits(adapter, model, hidden, 1.0)
    wanted = length * (costs.token + costs.target) + length**2 * costs.pair
    # Rotary angles are products too, and in a model as small as this one they show.
    assert counter.get_total_flops() == pytest.approx(wanted, rel=0.02)


def test_the_largest_that_fits_is_found():
    assert largest_that_fits(1024, 65536, lambda tokens: tokens <= 40_000) == 39 * 1024
    assert largest_that_fits(1024, 65536, lambda tokens: True) == 65536
    assert largest_that_fits(1024, 65536, lambda tokens: False) is None


def test_devices_are_named_by_their_beginning():
    assert named_device("h100").memory == 80 * 2**30
    with pytest.raises(ConfigError, match="A100-40GB, A100-80GB"):
        named_device("A100")
    with pytest.raises(ConfigError, match="there is no such device"):
        named_device("K80")
