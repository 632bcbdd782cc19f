"""Large groups: what its filter keeps if the model sees right, what a group of 32 computes, and its baseline."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from benchmarks.recipe_effects.large_groups import LONGER, SHORT, TIMED, equal_steps

from easyvideor1.config import load_config
from easyvideor1.curation.filters import FILTERS, FilterOptions, Passing
from easyvideor1.data import load_source
from easyvideor1.packing.prefix_tree import build_forest, pack_turns
from easyvideor1.recipes.package import find_package
from easyvideor1.toyworld import write_world
from easyvideor1.toyworld.scene import Body
from easyvideor1.toyworld.spec import spec_from_json
from easyvideor1.types import Prompt
from tiny import make_turn


def test_the_filter_keeps_exactly_the_rows_that_need_time(tmp_path) -> None:
    """The model is a reader of the middle frame: it knows colour and form of what is there, and no motion."""
    settings = find_package("large_groups").about.toy.worlds["world"]
    write_world(spec_from_json({**settings, "train": 25, "test": 0, "seconds": 2.0}), tmp_path)
    scenes = {line["clip"]: line for line in map(json.loads, (tmp_path / "scenes.jsonl").read_text().splitlines())}
    config = load_config("large_groups", [f"data.train.0.path={tmp_path}/train.jsonl"])
    row_filter = FILTERS.resolve("temporal_necessity")(FilterOptions(), config)
    rows = load_source(config.data.train[0], config.data).samples
    kept: Counter[str] = Counter()
    for sample in rows:
        scene = scenes[sample.extra["clip"]]
        visible = [body for body in (Body(**one) for one in scene["bodies"]) if body.visible_at(scene["seconds"] / 2)]
        known = {word for body in visible for word in (body.colour, body.shape)}
        views = {view.name: view for view in row_filter.views(sample)}
        assert set(views) == {"no_video", "one_frame"} and not views["no_video"].sample.media
        right = [option[3:] for option in sample.options if option.startswith(sample.answer)]
        found = {"no_video": Passing(0, 8), "one_frame": Passing(8 if set(right) & known else 0, 8)}
        kind = sample.extra["kind"]
        assert row_filter.verdict(sample, found).keep is (kind in TIMED), (kind, found)
        kept[kind] += 1
    assert set(kept) == {*TIMED, "mc_colour", "mc_shape"} and sum(kept.values()) == 25


@pytest.mark.parametrize(("prompt", "ratio"), [(4096, 5120 / 4352), (256, 1280 / 512)])
def test_a_group_of_32_shares_its_prompt(prompt, ratio) -> None:
    """P + n (R - 1) tokens: the prompt once, and each response without its last token."""
    rng = np.random.default_rng(0)
    tokens = {}
    for name in ("large_groups", "large_groups/small"):
        (stage,) = load_config(name).stages
        asked = Prompt(rng.integers(1, 1000, prompt))
        turns = [make_turn(asked, [1000 + n, *rng.integers(1, 1000, 32).tolist()]) for n in range(stage.group_size)]
        (unit,) = pack_turns(turns, share_prefix=True)
        tokens[stage.group_size] = build_forest(unit.turns).layout.length
    assert tokens == {32: prompt + 32 * 32, 8: prompt + 8 * 32}
    assert tokens[32] / tokens[8] == pytest.approx(ratio)


def test_the_baseline_differs_in_groups_and_curriculum_alone() -> None:
    recipe, small = (load_config(name).model_dump() for name in ("large_groups", "large_groups/small"))
    assert {key for key in recipe if recipe[key] != small[key]} == {"name", "output_dir", "stages"}
    (ours,), (theirs,) = recipe["stages"], small["stages"]
    assert {key for key in ours if ours[key] != theirs[key]} == {"group_size", "curriculum", "transforms"}


def test_the_baseline_runs_as_long_as_the_recipe() -> None:
    """Start-up of 5 s and 3 s a step: 65 s are 20 steps."""
    assert equal_steps(65.0, 5.0 + 3 * SHORT, 5.0 + 3 * LONGER) == 20
    with pytest.raises(ValueError, match="measure again"):
        equal_steps(65.0, 9.0, 9.0)
