"""Every family against the processor and the model of transformers, on all kinds and orders of media."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.family_cases import ALL_CASES, BATCHES, CASES, CONVERSATIONS, load_noise, render_case
from benchmarks.family_parity import Contender, compare
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyvideor1.families.family import family_names, load_family
from easyvideor1.families.inputs import load_media
from easyvideor1.families.tiny import TINY_FAMILIES
from easyvideor1.types import ConfigError, DataError, Geometry

pytestmark = pytest.mark.model

OUTSIDE = "tests.families.glm4v:Glm4V"


def kinds(batch):
    return {"video" if medium.frames else "image" for name in batch for medium in ALL_CASES[name].media}


#: transformers' own GLM-4.1V takes images or videos in a call, not both.
TURNS = (*BATCHES, *((name,) for name in CONVERSATIONS))
ONE_KIND = tuple(batch for batch in TURNS if len(kinds(batch)) < 2)
COMPARED = [(name, batch) for name in TINY_FAMILIES for batch in TURNS] + [("glm4v", batch) for batch in ONE_KIND]


@pytest.fixture(scope="session")
def parities(family_checkpoints, glm_checkpoint, tmp_path_factory):
    contenders = {name: Contender(checkpoint, batches=TURNS) for name, checkpoint in family_checkpoints.items()}
    contenders["glm4v"] = Contender(glm_checkpoint, OUTSIDE, ONE_KIND)
    return compare(contenders, tmp_path_factory.mktemp("oracle"))


def test_every_family_has_a_tiny_checkpoint():
    assert set(TINY_FAMILIES) == set(family_names())


@pytest.mark.parametrize(("family", "batch"), COMPARED, ids=str)
def test_a_family_is_what_transformers_has(parities, family, batch):
    (parity,) = [found for found in parities[family] if found.batch == batch]
    assert parity.ids, "token ids"
    assert parity.grids, "grids"
    assert parity.positions, "rotary positions"
    assert parity.pixels <= 1e-6
    assert parity.exact_logits <= 1e-9
    assert parity.logits <= parity.bound
    assert parity.generated, "greedy tokens of transformers' generate and of the local engine"
    assert parity.vision_calls == any(ALL_CASES[name].media for name in batch)


def test_the_parity_check_notices(family_checkpoints, tmp_path):
    """A family that writes brackets, reads pixels or computes a little differently fails."""
    differing = {"brackets": no_brackets, "pixels": other_pixels, "norm": other_norm}
    names = {name: f"tests.families.test_families:{family.__name__}" for name, family in differing.items()}
    contenders = {
        name: Contender(family_checkpoints["qwen3_vl"], family, (("video",),)) for name, family in names.items()
    }
    found = compare(contenders, tmp_path)
    assert not found["brackets"][0].ids and not found["brackets"][0].passes()
    assert found["pixels"][0].pixels > 1e-3 and found["pixels"][0].logits > 1e-3 and not found["pixels"][0].passes()
    assert found["norm"][0].logits < 1e-5 and not found["norm"][0].passes(), "float32 would not have told"


def no_brackets(checkpoint, *, trust_remote_code, conventions):
    return load_family(checkpoint, conventions="released")


def other_pixels(checkpoint, *, trust_remote_code, conventions):
    family = load_family(checkpoint, conventions=conventions)
    family.normalisation["video"] = ((0.5, 0.5, 0.49), (0.5, 0.5, 0.5))
    return family


def other_norm(checkpoint, *, trust_remote_code, conventions):
    family = load_family(checkpoint, conventions=conventions)
    load_model = family.load_model

    def load(*args, **options):
        model = load_model(*args, **options)
        model.model.language_model.norm.variance_epsilon *= 1.1  # from 1e-6
        return model

    family.load_model = load
    return family


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_geometry_is_the_checkpoints(family_checkpoints, name):
    patch = 14 if name.startswith("qwen2") else 16
    assert load_family(family_checkpoints[name]).geometry == Geometry(patch, 2, 2)


def released_positions(family, prompt):
    """Qwen2-VL, sec. 2.1, one token at a time: what follows begins behind the largest position so far."""
    out, largest = [], -1
    spans = {span.start: span for span in prompt.spans}
    token = 0
    while token < len(prompt):
        if token not in spans:
            largest += 1
            out.append((largest,) * 3)
            token += 1
            continue
        span, begin = spans[token], largest + 1
        steps, height, width = prompt.plans[span.media].grid
        rows, columns = height // 2, width // 2
        steps = span.length // (rows * columns)
        plan = prompt.plans[span.media]
        for step, row, column in itertools.product(range(steps), range(rows), range(columns)):
            time = step
            if family.config["model_type"] == "qwen2_5_vl" and plan.kind == "video":
                time = int(np.float32(step) * (np.float32(4) * np.float32(2 / plan.sample_fps)))
            out.append((begin + time, begin + row, begin + column))
        token += span.length
        largest = max(max(position) for position in out)
    return np.array(out).T, largest + 1


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5"])
@pytest.mark.parametrize("case", CASES)
def test_released_positions_are_those_of_the_paper(family_checkpoints, name, case):
    family = load_family(family_checkpoints[name])
    assert family.conventions == "released"  # unless told otherwise
    prompt = render_case(family, CASES[case])
    expected, following = released_positions(family, prompt)
    positions, first = family.positions(prompt)
    np.testing.assert_array_equal(positions, expected)
    assert first == following


def test_conventions_differ_where_they_should_and_nowhere_else(family_checkpoints):
    for name, case, same in (
        ("qwen2_vl", "images", True),
        ("qwen2_vl", "long video", False),
        ("qwen2_5_vl", "video", False),
        ("qwen3_vl", "images", True),
        ("qwen3_vl", "video", False),
    ):
        both = [load_family(family_checkpoints[name], conventions=kind) for kind in ("transformers", "released")]
        prompts = [render_case(family, CASES[case]) for family in both]
        positions = [family.positions(prompt)[0].tolist() for family, prompt in zip(both, prompts, strict=True)]
        assert (positions[0] == positions[1]) == same


@pytest.fixture(scope="session")
def released_families(family_checkpoints):
    return {name: load_family(family_checkpoints[name]) for name in ("qwen2_vl", "qwen2_5_vl")}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=st.sampled_from(["qwen2_vl", "qwen2_5_vl"]), case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 99))
def test_spans_and_visual_tokens_are_the_same_tokens(released_families, name, case, seed):
    family = released_families[name]
    prompt = render_case(family, CASES[case])
    inside = np.zeros(len(prompt), dtype=bool)
    for span in prompt.spans:
        inside[span.start : span.start + span.length] = True
    visual = (family.image_token_id, family.video_token_id)
    np.testing.assert_array_equal(inside, np.isin(prompt.token_ids, visual))
    assert inside.sum() == sum(plan.tokens for plan in prompt.plans)


def test_a_plan_of_another_familys_patches_is_refused(family_checkpoints):
    older, newer = (load_family(family_checkpoints[name]) for name in ("qwen2_vl", "qwen3_vl"))
    prompt = render_case(older, CASES["video"])
    with pytest.raises(DataError, match="made for another model family"):
        newer.render(CASES["video"].text, prompt.media, prompt.plans)


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_groups_are_the_whole_model_without_overlap(family_checkpoints, name):
    family = load_family(family_checkpoints[name])
    model = family.load_model(
        family_checkpoints[name], dtype=torch.float32, attention="sdpa", trust_remote_code=False, meta=True
    )
    owned = {
        group: {id(p) for module in modules for p in module.parameters()}
        for group, modules in family.groups(model).items()
    }
    assert set(owned) == {"vision", "merger", "language"} and all(owned.values())
    assert set().union(*owned.values()) == {id(p) for p in model.parameters()}
    assert sum(map(len, owned.values())) == len(set().union(*owned.values()))


@pytest.mark.parametrize("name", TINY_FAMILIES)
def test_a_model_without_weights_has_the_shapes_of_the_one_with(family_checkpoints, name):
    family = load_family(family_checkpoints[name])
    options = {"attention": "eager", "trust_remote_code": False}
    empty = family.load_model(family_checkpoints[name], dtype=torch.bfloat16, meta=True, **options)
    full = family.load_model(family_checkpoints[name], dtype=torch.bfloat16, **options)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    shapes = [{key: (value.shape, value.dtype) for key, value in model.state_dict().items()} for model in (empty, full)]
    assert shapes[0] == shapes[1]
    assert full.config.get_text_config()._attn_implementation == "eager"


@pytest.mark.parametrize("name", [*TINY_FAMILIES, "glm4v"])
@torch.no_grad()
def test_features_of_a_medium_depend_on_it_alone(family_checkpoints, glm_checkpoint, name):
    """``feature_cache`` says so: a medium's features are the same whatever else is in the call."""
    checkpoint = family_checkpoints.get(name, glm_checkpoint)
    family = load_family(checkpoint, name=OUTSIDE if name == "glm4v" else "")
    assert family.feature_cache
    model = family.load_model(checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False).eval()
    prompt = render_case(family, CASES["interleaved"])
    frames = load_media(prompt, load_noise)
    together = family.encode(model, family.visual_inputs(frames))
    alone = [family.encode(model, family.visual_inputs([medium])) for medium in frames]
    assert [len(seen.tokens) for seen in alone] == [plan.tokens for plan in prompt.plans]
    torch.testing.assert_close(torch.cat([seen.tokens for seen in alone]), together.tokens, rtol=0, atol=1e-5)
    assert len(together.deepstack) == (2 if name.startswith("qwen3_vl") else 0)
    for layer, whole in enumerate(together.deepstack):
        parts = torch.cat([seen.deepstack[layer] for seen in alone])
        torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
    settings_text = family.feature_settings(model)
    assert family.config["model_type"] in settings_text and '"patch_size"' in settings_text


def test_layers_with_a_window_of_their_own_are_refused(family_checkpoints, tmp_path):
    source = family_checkpoints["qwen2_5_vl"]
    for file in source.iterdir():
        (tmp_path / file.name).symlink_to(file)
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["text_config"] |= {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    del config["text_config"]["layer_types"]
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    family = load_family(tmp_path)
    with pytest.raises(ConfigError, match="layers of sliding_attention, which Qwen25VL does not take"):
        family.load_model(tmp_path, dtype=torch.float32, attention="sdpa", trust_remote_code=False)


def test_a_family_is_named_where_its_model_type_has_none(glm_checkpoint):
    with pytest.raises(ConfigError, match=r"model_type 'glm4v'; supported: qwen2_5_vl, .*model\.family=module:attr"):
        load_family(glm_checkpoint)
    with pytest.raises(ConfigError, match="unknown model family 'qwen3_vI': did you mean qwen3_vl"):
        load_family(glm_checkpoint, name="qwen3_vI")
    family = load_family(glm_checkpoint, name=OUTSIDE)
    prompt = render_case(family, CASES["video"])
    text = family.tokenizer.decode(prompt.token_ids)
    assert "<|begin_of_video|><|begin_of_image|><|image|>" in text and "<|end_of_image|>0<|begin_of_image|>" in text


def test_a_family_is_not_given_the_checkpoint_of_another(family_checkpoints):
    checkpoint = family_checkpoints["qwen2_vl"]
    with pytest.raises(ConfigError, match=r"'qwen3_vl' is not the family .* 'qwen2_vl'; leave model.family empty"):
        load_family(checkpoint, name="qwen3_vl")
    assert type(load_family(checkpoint, name="qwen2_vl")) is type(load_family(checkpoint))


def test_the_page_shows_the_family_that_is_tested():
    page = (Path(__file__).parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    source = (Path(__file__).parent / "glm4v.py").read_text(encoding="utf-8")
    assert source[source.index("class Glm4V") :].strip() in page
    for name in family_names():
        assert f"`{name}`" in page


def test_noise_is_the_plans(family_checkpoints):
    prompt = render_case(load_family(family_checkpoints["qwen2_vl"]), CASES["video"])
    (ref,), (made,) = prompt.media, prompt.plans
    assert np.array_equal(load_noise(ref, made).pixels, load_noise(ref, made).pixels)
