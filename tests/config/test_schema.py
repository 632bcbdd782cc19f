"""What a configuration may not say, whoever makes it."""

import math

import pytest
from pydantic import ValidationError

from easyvideor1.config import dump_config, parse_config
from easyvideor1.config.keys import identifies_run, keys_of
from easyvideor1.config.migrate import migrate
from easyvideor1.config.schema import CacheConfig, ImageBudget, OptimizerConfig, VideoBudget
from easyvideor1.types import ConfigError


@pytest.mark.parametrize(
    ("section", "low", "high"),
    [
        (ImageBudget, "min_pixels", "max_pixels"),
        (VideoBudget, "min_pixels", "max_pixels"),
        (VideoBudget, "min_frames", "max_frames"),
    ],
)
def test_limits_are_in_order(section, low, high):
    assert section(**{low: 50, high: 50})
    with pytest.raises(ValidationError, match=rf"{low} \(51\) is larger than {high} \(50\); lower the first or raise"):
        section(**{low: 51, high: 50})


def test_a_deadline_of_requests_needs_a_worker():
    with pytest.raises(ConfigError, match=r"f:1: rollout: deadline would have no effect.*set rollout\.workers=1"):
        parse_config("rollout: {deadline: 60}", "f")
    assert parse_config("rollout: {deadline: 60, workers: 1}", "f").rollout.deadline == 60


def test_a_contradiction_in_a_file_is_told_with_its_place():
    with pytest.raises(ConfigError, match=r"f:2: data\.video: min_frames \(9\) is larger than max_frames \(8\)"):
        parse_config("data:\n  video: {min_frames: 9, max_frames: 8}", "f")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value):
    for section, field in ((CacheConfig, "deadline"), (OptimizerConfig, "lr"), (VideoBudget, "fps")):
        with pytest.raises(ValidationError, match="finite"):
            section(**{field: value})


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ("{deadline: 5}", "deadline would have no effect"),
        ("{placement: ray}", "placement and weight_sync would have no effect"),
        ("{weight_sync: collective}", "placement and weight_sync would have no effect"),
        ("{workers: 2, gpus_per_worker: 0.5}", "gpus_per_worker would have no effect"),
        ("{workers: 2, placement: ray, gpus_per_worker: 2}", "gpus_per_worker"),
        ("{workers: -1}", "workers"),
    ],
)
def test_options_of_workers_need_workers(rollout, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(f"rollout: {rollout}", "f")


def test_where_workers_run_does_not_identify_a_run():
    text = "rollout: {workers: 3, placement: ray, gpus_per_worker: 0.5, weight_sync: shared_memory}"
    assert parse_config(text, "f").rollout.workers == 3
    for key in ("workers", "placement", "gpus_per_worker", "weight_sync"):
        assert not identifies_run(keys_of(f"rollout.{key}"))


def test_gradients_may_be_left_at_any_norm():
    assert OptimizerConfig(max_grad_norm=math.inf).max_grad_norm == math.inf
    for value in (math.nan, -math.inf, 0.0):
        with pytest.raises(ValidationError):
            OptimizerConfig(max_grad_norm=value)


def test_fewer_frames_than_the_usual_least_can_be_migrated():
    video = migrate("data: {video_max_frames: 2}", "old.yaml").config.data.video
    assert (video.min_frames, video.max_frames) == (2, 2)


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ("{name: a}", (100, None)),
        ("{name: a, steps: 5}", (5, None)),
        ("{name: a, steps: null}", (100, None)),
        ("{name: a, epochs: 1.5}", (None, 1.5)),
        ("{name: a, epochs: 2, steps: null}", (None, 2.0)),
    ],
)
def test_a_stage_is_as_long_as_steps_or_epochs_say(options, length):
    config = parse_config(f"stages: [{options}]", "f")
    (stage,) = config.stages
    assert (stage.steps, stage.epochs) == length
    assert parse_config(dump_config(config), "f") == parse_config(dump_config(config, only_set=True), "f") == config


def test_a_length_that_is_given_twice_is_told_with_what_to_do():
    message = r"steps \(5\) and epochs \(2\) both say how long the stage is: leave one out, or set it to null"
    with pytest.raises(ConfigError, match=rf"f:1: stages\.0\.steps: {message}"):
        parse_config("stages: [{name: a, steps: 5, epochs: 2}]", "f")
    text = "stages: [{name: a, steps: 5}]"
    with pytest.raises(ConfigError, match="both say how long"):
        parse_config(text, "f", ["stages.a.epochs=2"])
    assert parse_config(text, "f", ["stages.a.epochs=2", "stages.a.steps=null"]).stages[0].epochs == 2
    with pytest.raises(ConfigError, match=r"stages\.0\.epochs: expected greater than 0, got 0"):
        parse_config("stages: [{name: a, epochs: 0}]", "f")


def test_a_warm_up_is_given_once():
    assert OptimizerConfig(warmup_ratio=0.1).warmup_steps == 0
    with pytest.raises(ValidationError, match="warmup_steps and warmup_ratio both say"):
        OptimizerConfig(warmup_ratio=0.1, warmup_steps=3)


def test_training_has_no_penalties_and_evaluation_has_bounded_ones():
    with pytest.raises(ConfigError, match=r"rollout\.presence_penalty: did you mean evaluation\.presence_penalty\?"):
        parse_config("rollout: {presence_penalty: 1}", "f")
    for wrong in ("presence_penalty: 2.5", "frequency_penalty: -3", "repetition_penalty: 0", "top_p: 0", "top_k: -1"):
        with pytest.raises(ConfigError, match=r"expected (greater|less) than"):
            parse_config(f"evaluation: {{{wrong}}}", "f")


@pytest.mark.parametrize(
    ("key", "identifies"),
    [
        *[(key, False) for key in ("name", "output_dir", "project", "loggers", "loggers.0", "rollout.engine")],
        *[(key, False) for key in ("canary.window", "cache.dir", "cache.workers", "evaluation.max_failed")],
        *[(f"rewards.judge.{key}", False) for key in ("timeout", "retries", "max_wait", "api_key_env", "concurrency")],
        *[(key, False) for key in ("stages.0.save_every", "stages.1.keep_checkpoints", "stages.0.micro_batch_tokens")],
        *[(key, True) for key in ("seed", "threads", "model.path", "data.train.0.path", "cache.codec", "cache.mode")],
        *[(key, True) for key in ("stages.0.steps", "stages.0.objective.clip_low", "stages.0.kl.coef")],
        *[(key, True) for key in ("rollout.temperature", "rewards.judge.model", "stages.0.objective.my_own", "gone")],
    ],
)
def test_what_identifies_a_run_is_marked_in_the_schema(key: str, identifies: bool) -> None:
    assert identifies_run(keys_of(key)) == identifies
