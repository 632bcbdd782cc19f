"""Layers that are faster than those of transformers compute what these compute."""

import copy
import importlib

import pytest
import torch
from peft import LoraConfig
from peft.tuners import lora

from easyvideor1.families.family import load_family
from easyvideor1.families.layers import RMS_NORMS, PatchProjection, RMSNorm, make_faster
from easyvideor1.families.tiny import TINY_FAMILIES

pytestmark = pytest.mark.model

FASTER = [name for name in TINY_FAMILIES if not name.startswith("qwen3_5")]


def convolution_and_projection(dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(0)
    plain = torch.nn.Conv3d(3, 24, (2, 4, 4), stride=(2, 4, 4), bias=bias)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 8)
    plain = plain.to(dtype)
    projection = copy.deepcopy(plain)
    make_faster(projection)
    return plain, projection, torch.randn(50, 3, 2, 4, 4, generator=generator).to(dtype)


def outcome(layer, patches):
    """What a layer gives, and the gradients of its input and parameters."""
    patches = patches.clone().requires_grad_()
    out = layer(patches)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out).sin()).sum().backward()
    found = {name: parameter.grad for name, parameter in layer.named_parameters()}
    return {"out": out.detach(), "patches": patches.grad, **found}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_patches_are_projected_as_by_a_convolution(dtype, rounding, bias):
    """Values and gradients are those of a convolution in float64, as near as the type is."""
    plain, projection, patches = convolution_and_projection(dtype, bias)
    found, exact = outcome(projection, patches), outcome(plain.double(), patches.double())
    assert found.keys() == exact.keys() and len(found) == (4 if bias else 3)
    for name, wanted in exact.items():
        assert found[name].shape == wanted.shape and found[name].dtype == dtype
        assert (found[name].double() - wanted).norm() < rounding * wanted.norm(), name


def test_patches_are_projected_in_the_type_of_autocast():
    plain, projection, patches = convolution_and_projection()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = projection(patches), plain(patches)
    assert found.dtype == wanted.dtype == torch.bfloat16
    assert (found - wanted).float().norm() < 1e-2 * wanted.float().norm()


def test_larger_inputs_are_convolved():
    plain, projection, _ = convolution_and_projection()
    frames = torch.randn(2, 3, 4, 8, 12)
    assert projection(frames).shape == (2, 24, 2, 2, 3)
    assert torch.equal(projection(frames), plain(frames))


@pytest.mark.parametrize(
    "options",
    [{"stride": 1}, {"padding": (0, 1, 1)}, {"padding": "valid"}, {"dilation": 2}, {"groups": 3}],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(options):
    layer = torch.nn.Conv3d(3, 24, (2, 4, 4), **{"stride": (2, 4, 4), **options})
    make_faster(torch.nn.Sequential(layer))
    assert type(layer) is torch.nn.Conv3d


@pytest.mark.parametrize("name", FASTER)
def test_a_projection_is_copied_saved_and_adapted_like_a_convolution(name, family_checkpoints):
    family = load_family(family_checkpoints[name])
    model = family.load_model(family_checkpoints[name], dtype=torch.float32, attention="sdpa", trust_remote_code=False)
    eager = family.load_model(family_checkpoints[name], dtype=torch.float32, attention="eager", trust_remote_code=False)
    projection, plain = (each.model.visual.patch_embed.proj for each in (model, eager))
    assert type(projection) is PatchProjection and type(plain) is torch.nn.Conv3d
    assert all(torch.equal(tensor, plain.state_dict()[key]) for key, tensor in projection.state_dict().items())
    copied = copy.deepcopy(projection)
    assert type(copied) is PatchProjection and copied.weight.data_ptr() != projection.weight.data_ptr()
    adapted = [lora.Conv3d(layer, "default", LoraConfig(), r=2, lora_alpha=4) for layer in (projection, plain)]
    with torch.no_grad():
        for one, other in zip(*(layer.parameters() for layer in adapted), strict=True):
            one.copy_(other.normal_())
    patches = torch.randn(7, *projection.weight.shape[1:])
    torch.testing.assert_close(adapted[0](patches), adapted[1](patches), rtol=1e-3, atol=1e-3)


def norms():
    """The norms of transformers, by name."""
    modules = [
        importlib.import_module(f"transformers.models.{name}.modeling_{name}")
        for name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
    ]
    found = {name: kind for module in modules for name, kind in vars(module).items() if name in RMS_NORMS}
    assert found.keys() == RMS_NORMS
    return found


def two_norms(name, width, dtype=torch.float32):
    plain = norms()[name](width, eps=1e-5).to(dtype)
    torch.nn.init.normal_(plain.weight, 1.0, 0.3, generator=torch.Generator().manual_seed(width))
    fast = copy.deepcopy(plain)
    make_faster(fast)
    assert isinstance(fast, RMSNorm) and type(fast).__name__ == name
    return plain, fast


@pytest.mark.parametrize("shape", [(1, 512, 128), (1, 77, 4, 32), (3, 5, 3584), (2, 9, 33)], ids=str)
@pytest.mark.parametrize("name", sorted(RMS_NORMS))
def test_norms_and_their_gradients_are_equal_to_the_bit(name, shape):
    hidden = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3
    found = []
    for norm in two_norms(name, shape[-1]):
        own = hidden.clone().requires_grad_()
        out = norm(own)
        (out * hidden.sin()).sum().backward()
        found.append((out, own.grad, norm.weight.grad))
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("types", [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.bfloat16)], ids=str)
@pytest.mark.parametrize("name", sorted(RMS_NORMS))
def test_in_sixteen_bits_norms_are_those_of_transformers(name, types):
    """With frozen weights in float32 and activations in 16 bits, too."""
    weights, activations = types
    plain, fast = two_norms(name, 64, weights)
    hidden = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)).to(activations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, wanted = fast(hidden), plain(hidden)
    assert found.dtype == wanted.dtype and torch.equal(found, wanted)


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_models_have_them_unless_their_attention_is_eager_or_layers_carry_a_state(name, family_checkpoints):
    family = load_family(family_checkpoints[name])
    counts = {}
    for attention in ("sdpa", "eager"):
        model = family.load_model(
            family_checkpoints[name], dtype=torch.float32, attention=attention, trust_remote_code=False
        )
        layers = list(model.modules())
        counts[attention] = [sum(isinstance(each, kind) for each in layers) for kind in (PatchProjection, RMSNorm)]
        plain = [each for each in layers if type(each).__name__ in RMS_NORMS and not isinstance(each, RMSNorm)]
        assert attention == "eager" or name not in FASTER or not plain
    assert counts["eager"] == [0, 0]
    if name in FASTER:
        assert counts["sdpa"][0] == 1 and counts["sdpa"][1]
    else:
        assert counts["sdpa"] == [0, 0]
