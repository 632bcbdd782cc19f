"""Recipes of real size: they load, go with their figures, are shown, and train tiny models of the same families."""

from __future__ import annotations

import json

import pytest
from benchmarks.family_cases import corpus
from benchmarks.real_models import DEVICES, PAGE, TRIED, inputs_digest, page_with, recipe_name, rows_of
from benchmarks.real_shapes import SHAPES, write_real_shape
from typer.testing import CliRunner

from easyvideor1.benchmarks.benchmark import BENCHMARKS, load_definitions
from easyvideor1.cli.app import app
from easyvideor1.config import load_config, parse_config
from easyvideor1.config.shipped import OVERLAYS, REAL, real_overlays, real_recipes, recipes_directory
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.policy.sizing.devices import GPUS
from easyvideor1.policy.sizing.prediction import Problem
from easyvideor1.recipes.real_size import expected_needs, figures_file
from easyvideor1.toyworld import WorldSpec, write_world

RUN = CliRunner(env={"COLUMNS": "160"})
NAMES = real_recipes()
MODELS = [name.removeprefix(f"{REAL}/") for name in NAMES]
EVALUATIONS = [name for name in real_overlays() if name.startswith("eval_")]


def test_every_recipe_has_a_shape_and_figures_for_each_number_of_gpus():
    assert set(MODELS) == set(SHAPES)
    rows = expected_needs()
    assert [(row.model, row.method, row.gpus) for row in rows] == [(name, *key) for name in SHAPES for key in TRIED]
    for row in rows:
        tried = [recipe_name(row.model, over) for over in TRIED[row.method, row.gpus]]
        for memory, found in row.expected.items():
            assert memory in DEVICES and (found is None or found.recipe in tried)
            if found is not None:
                assert load_config(found.recipe).cluster.ranks == row.gpus
                assert (load_config(found.recipe).model.lora is None) == (row.method == "all weights")


def test_figures_are_those_of_the_recipes_and_the_page_shows_them():
    again = "python -m benchmarks.real_models"
    assert json.loads(figures_file().read_text(encoding="utf-8"))["inputs"] == inputs_digest(), f"run {again}"
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with(page, expected_needs()), f"run {again}"


def compared(model):
    kept = [row for row in expected_needs() if row.model == model]
    found = list(rows_of(model))
    assert len(found) == len(kept)
    for new, old in zip(found, kept, strict=True):
        for memory in DEVICES:
            one, other = new.expected[memory], old.expected[memory]
            assert (one is None) == (other is None), (model, old.method, old.gpus, memory)
            if one is not None and other is not None:
                assert one.recipe == other.recipe and one.phase == other.phase
                assert one.peak == pytest.approx(other.peak, rel=0.02)
                assert one.seconds == {
                    name: pytest.approx(value, rel=0.02, abs=2) for name, value in other.seconds.items()
                }


@pytest.mark.model
def test_figures_of_a_model_are_predicted_again():
    compared("qwen3_vl_2b")


@pytest.mark.slow
@pytest.mark.parametrize("model", [name for name in SHAPES if name != "qwen3_vl_2b"])
def test_figures_of_all_models_are_predicted_again(model):
    compared(model)


def test_the_shape_of_a_published_model_has_its_number_of_parameters(tmp_path):
    import torch

    from easyvideor1.families.family import load_family

    published = {"qwen2_5_vl_7b": 8.29e9, "qwen3_vl_2b": 2.13e9, "qwen3_vl_4b": 4.44e9, "qwen3_vl_8b": 8.77e9}
    for name, expected in published.items():
        checkpoint = write_real_shape(tmp_path / name, name)
        model = load_family(checkpoint).load_model(
            checkpoint, dtype=torch.float32, attention="sdpa", trust_remote_code=False, meta=True
        )
        assert sum(each.numel() for each in model.parameters()) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("over", "devices"), [("gpus_1", 1), ("gpus_8", 8), ("gpus_32", 32)])
def test_a_prediction_counts_the_gpus_that_generate_side_by_side(over, devices):
    config = load_config(f"real/qwen3_vl_8b+{over}")
    found = Problem(config, config.stages[0], (), None, True, GPUS["h100-80gb"])  # type: ignore[arg-type]
    assert found.generating_devices == devices


@pytest.mark.parametrize("name", EVALUATIONS)
def test_lists_of_benchmarks_name_benchmarks(name):
    load_definitions()
    listed = load_config(f"real/qwen3_vl_8b+{name}").evaluation.benchmarks
    assert listed and all(entry.partition("=")[0] in BENCHMARKS.names() for entry in listed)


@pytest.mark.parametrize("file", sorted((recipes_directory() / REAL).rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_file_says_what_it_is_and_overlays_say_where_numbers_come_from(file):
    lines = file.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    if file.parent.name != OVERLAYS or file.stem.startswith(("data_", "eval_", "gpus_")):
        return
    values = [line for line in lines if not line.startswith("#") and line.partition(":")[2].partition("#")[0].strip()]
    unmarked = [line for line in values if not any(mark in line for mark in ("[C]", "[F]", "[I]"))]
    names = ("name:", "output_dir:", "- name:", "name: ppo_clip")
    assert [line for line in unmarked if not line.strip().startswith(names)] == []


def test_the_list_and_one_of_them_are_shown(tmp_path):
    shown = RUN.invoke(app, ["recipes", "real"])
    assert shown.exit_code == 0, shown.output
    assert "real/qwen3_vl_8b" in shown.stdout and "of 80 GB" in shown.stdout
    assert "evr1 recipes real" in RUN.invoke(app, ["recipes"]).stdout
    one = RUN.invoke(app, ["recipes", "real/qwen3_vl_8b+lora+gpus_1"])
    assert parse_config(one.stdout, "shown") == load_config("real/qwen3_vl_8b+lora+gpus_1")
    copy = RUN.invoke(app, ["recipes", "real/qwen3_vl_8b", "--copy", str(tmp_path / "mine.yaml")])
    assert copy.exit_code == 0 and load_config(tmp_path / "mine.yaml") == load_config("real/qwen3_vl_8b")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["real/qwen3_vl_8b", "--prepare"], "has no toy data"),
        (["real/qwen3_vl_8"], "did you mean real/qwen3_vl_8b"),
        (["real/qwen3_vl_8b+gpu_8"], "did you mean gpus_8"),
    ],
)
def test_what_cannot_be_shown_is_told(words, told):
    done = RUN.invoke(app, ["recipes", *words])
    assert done.exit_code == 2 and told in done.stderr


def test_missing_models_and_rows_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = RUN.invoke(app, ["train", "real/qwen3_vl_2b+gpus_1"])
    assert done.exit_code == 2 and "models/Qwen3-VL-2B-Instruct" in done.stderr
    asked = RUN.invoke(app, ["eval", "run", "real/qwen3_vl_2b+eval_general"])
    assert asked.exit_code == 2 and "data/benchmarks/video_mme" in asked.stderr


#: One model of each family.
OF_EACH_FAMILY = ("qwen2_5_vl_7b", "qwen3_vl_8b", "qwen3_5_4b", "qwen3_5_35b_a3b")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("real") / "world"
    kinds = ("mc_direction", "count")
    write_world(WorldSpec(seed=1, train=6, validation=0, test=2, image_share=0.0, kinds=kinds), root)
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Tiny checkpoints by the recipes whose families they are of."""
    root = tmp_path_factory.mktemp("tiny")
    sizes = {"width": 64, "layers": 2, "vision_layers": 2, "vocabulary": 400}
    made = {name: write_tiny_checkpoint(root / name, corpus(), family=name, **sizes) for name in _families()}
    return {model: made[shape.family] for model, shape in SHAPES.items()}


def _families():
    return sorted({shape.family for shape in SHAPES.values()})


def planned(recipe, checkpoint, world):
    """What a dry run says, as a GPU of 80 GB would have it."""
    rows = f"data.train=[{{path: {world / 'train.jsonl'}}}]"
    words = ["train", recipe, "--dry-run", "--device", "H100", f"model.path={checkpoint}", rows, "cache.workers=1"]
    return RUN.invoke(app, words)


@pytest.mark.model
@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[] if name in OF_EACH_FAMILY else pytest.mark.slow) for name in SHAPES]
)
def test_every_recipe_plans_a_run_on_one_gpu(model, tiny, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = planned(f"real/{model}+lora+gpus_1", tiny[model], world)
    assert done.exit_code == 0, done.output
    assert "200 steps of 16 prompts x 8 responses" in done.stdout and "<think>" in done.stdout
    assert f"runs/{model}-lora-gpus_1: a new run" in done.stdout and not (tmp_path / "runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("gpus", [8, 32])
@pytest.mark.parametrize("model", SHAPES)
def test_every_recipe_plans_a_run_on_several_gpus(model, gpus, tiny, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for over in ("", "+lora", "+offload"):
        done = planned(f"real/{model}{over}+gpus_{gpus}", tiny[model], world)
        prompts = {8: 64, 32: 256}[gpus]
        assert f"200 steps of {prompts} prompts x 8 responses" in done.stdout, done.output
        problems = done.output.partition("problem")[2]
        assert done.exit_code == 0 or ("1. rollout.engine: 'vllm' needs vllm" in problems and "2." not in problems)


def trained(recipe, checkpoint, world, place, *overrides):
    done = RUN.invoke(
        app,
        [
            "train",
            recipe,
            f"model.path={checkpoint}",
            f"data.train=[{{path: {world / 'train.jsonl'}}}]",
            "data.video.max_frames=4",
            "data.video.max_pixels=4096",
            "cache.workers=1",
            "rollout.max_new_tokens=6",
            "stages.grpo.steps=1",
            "stages.grpo.prompts_per_step=2",
            "stages.grpo.group_size=2",
            "stages.grpo.selection.filter_low=-1",
            "stages.grpo.selection.filter_high=2",
            "stages.grpo.selection.drop_flat_groups=false",
            *overrides,
        ],
    )
    assert done.exit_code == 0, done.output
    return next((place / "runs").iterdir())


@pytest.mark.model
def test_a_recipe_trains_a_tiny_model_from_its_first_word_to_its_checkpoint(tiny, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trained("real/qwen3_vl_2b+lora+gpus_1", tiny["qwen3_vl_2b"], world, tmp_path)
    assert run.name == "qwen3_vl_2b-lora-gpus_1"
    (line,) = (run / "stages" / "01-grpo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["step"] == 1
    assert (run / "stages" / "01-grpo" / "checkpoints" / "step_000001" / "state.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("over", ["gpus_1", "gpus_1+frozen_tower+offload", "lora+gpus_1+short"])
@pytest.mark.parametrize("model", OF_EACH_FAMILY)
def test_recipes_of_all_families_train_tiny_models(model, over, tiny, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = trained(f"real/{model}+{over}", tiny[model], world, tmp_path)
    assert (run / "stages" / "01-grpo" / "checkpoints" / "step_000001" / "state.json").is_file()
