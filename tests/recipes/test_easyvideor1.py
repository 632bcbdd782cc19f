"""The recipes of EasyVideoR1 are the published files, translated; the toy one keeps their algorithm and rewards."""

from pathlib import Path

import pytest
import yaml

from easyvideor1.config import load_config
from easyvideor1.config.migrate import migrate_file

PUBLISHED = Path(__file__).parents[1] / "config" / "published"


@pytest.mark.parametrize("name", ["video_rl", "unified_rl"])
def test_the_shipped_file_is_the_translation_of_the_published_one(name):
    from easyvideor1.config.one_file import one_file

    shipped = one_file(f"easyvideor1/{name}")
    assert yaml.safe_load(shipped) == yaml.safe_load(migrate_file(PUBLISHED / f"{name}.yaml").text)


@pytest.mark.parametrize("name", ["video_rl", "unified_rl"])
def test_budgets_are_the_published_ones(name):
    old = yaml.safe_load((PUBLISHED / f"{name}.yaml").read_text(encoding="utf-8"))
    new = load_config(f"easyvideor1/{name}")
    (stage,) = new.stages
    data, actor, rollout = old["data"], old["worker"]["actor"], old["worker"]["rollout"]
    assert new.data.video.fps == data["video_fps"] and new.data.video.max_frames == data["video_max_frames"]
    assert new.data.video.max_pixels == data["video_max_pixels"]
    assert new.data.image.max_pixels == data["image_max_pixels"]
    assert new.data.max_prompt_tokens == data["max_prompt_length"]
    assert new.rollout.max_new_tokens == data["max_response_length"]
    assert stage.prompts_per_step == data["rollout_batch_size"]
    assert stage.mini_batches == data["rollout_batch_size"] // actor["global_batch_size"]
    assert stage.group_size == rollout["n"]
    assert stage.optimizer.lr == actor["optim"]["lr"]


def test_the_toy_recipe_has_their_algorithm_and_reward_profile():
    toy, published = load_config("easyvideor1"), load_config("easyvideor1/video_rl")
    (here,), (there,) = toy.stages, published.stages
    for key in ("advantage", "objective", "aggregation", "kl", "group_size", "mini_batches", "ppo_epochs"):
        assert getattr(here, key) == getattr(there, key), key
    assert here.selection.drop_flat_groups is there.selection.drop_flat_groups is False
    assert toy.rewards.profile == published.rewards.profile == "easyvideor1-video"
    assert load_config("easyvideor1/unified_rl").rewards.profile == "easyvideor1-unified"
