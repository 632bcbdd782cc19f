"""A key at the wrong depth, or by another framework's name, is told the place where it belongs."""

import pytest

from easyvideor1.config import parse_config
from easyvideor1.config.keys import all_keys, dotted
from easyvideor1.config.schema import RunConfig
from easyvideor1.config.synonyms import LOCAL_SYNONYMS, SYNONYMS
from easyvideor1.types import ConfigError

STAGES = "stages:\n  - {name: sft, steps: 10}\n  - {name: grpo, optimizer: {lr: 1e-6}}\n"


def told(text, *overrides):
    with pytest.raises(ConfigError) as error:
        parse_config(text, "run.yaml", overrides)
    return str(error.value).splitlines()[0]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("stages.grpo.learning_rate", "stages.grpo.optimizer.lr"),
        ("stages.1.learning_rate", "stages.grpo.optimizer.lr"),
        ("stages.grpo.learnin_rate", "stages.grpo.optimizer.lr"),
        ("stages.grpo.optimizer.learning-rate", "stages.grpo.optimizer.lr"),
        ("stages.grpo.critic.learning_rate", "stages.grpo.critic.lr"),
        ("stages.grpo.lr", "stages.grpo.optimizer.lr or stages.grpo.critic.lr"),
        ("learning_rate", "stages.sft.optimizer.lr"),
        ("batch_size", "stages.sft.prompts_per_step"),
        ("stages.grpo.num_generations", "stages.grpo.group_size"),
        ("rollout.n", "stages.sft.group_size"),
        ("evaluation.n", "evaluation.samples"),
        ("stages.grpo.beta", "stages.grpo.objective.beta or stages.grpo.kl.coef"),
        ("stages.grpo.num_train_epochs", "stages.grpo.epochs"),
        ("max_completion_length", "rollout.max_new_tokens"),
        ("rollout.max_tokens", "rollout.max_new_tokens"),
        ("rollout.presence_penalty", "evaluation.presence_penalty"),
        ("temperature", "data.temperature or rollout.temperature or evaluation.temperature"),
        ("data.maxframes", "data.video.max_frames"),
        ("data.video.nframes", "data.video.frames"),
        ("model.lora.r", "model.lora.rank"),
        ("model.lora_rank", "model.lora.rank"),
        ("stages.grpo.stps", "stages.grpo.steps"),
        ("train", "data.train"),
    ],
)
def test_the_place_is_named_and_nothing_else(key, meant):
    shown = key.replace("stages.1.", "stages.grpo.")
    assert told(STAGES, f"{key}=1") == f"override '{key}=1': unknown key {shown}: did you mean {meant}?"


def test_entries_of_lists_keep_their_index():
    text = "data:\n  train:\n    - {path: a.jsonl}\n    - {path: b.jsonl, image_dir: m}\n"
    assert told(text) == "run.yaml:4: unknown key data.train.1.image_dir: did you mean data.train.1.media_root?"


def test_a_stage_without_a_usable_name_goes_by_its_index():
    assert "unknown key stages.0.stps: did you mean stages.0.steps?" in told("stages: [{name: '3', stps: 3}]")


def test_a_section_that_does_not_exist_is_taken_apart():
    line = told("training:\n  learning_rate: 1\n  batch_size: 3\n  nonsense: 4\n")
    assert line == (
        "run.yaml:1: unknown key training: there is no such section; write stages.0.optimizer.lr for its "
        "learning_rate, stages.0.prompts_per_step for its batch_size"
    )


def test_what_nobody_knows_gets_a_short_answer():
    assert told(STAGES, "stages.grpo.zzz=1").endswith(
        "nothing of such a name can be set; docs/configuration.md and `evr1 config show` have the keys of stages.grpo"
    )
    assert "valid keys here: rule, fps, frames," in told("data: {video: {zzz: 3}}")


def test_synonyms_lead_to_keys_and_are_none_themselves():
    keys = set(all_keys())
    assert set(SYNONYMS) | set(LOCAL_SYNONYMS) <= keys
    for key, names in SYNONYMS.items():
        assert len(set(names)) == len(names)
        for name in names:
            assert (*key[:-1], name) not in keys, f"{name} is a key beside {dotted(key)}"


def test_every_synonym_is_answered():
    """Written at the top, a synonym is answered with a key that goes by that name."""
    for key, names in SYNONYMS.items():
        for name in names:
            if name in RunConfig.model_fields:
                continue
            meant = {dotted(other) for other, others in SYNONYMS.items() if name in others}
            meant |= {dotted(other) for other in all_keys() if other[-1] == name}
            answer = told("", f"{name}=1").partition("did you mean ")[2].removesuffix("?").split(" or ")
            assert answer and set(answer) <= meant, f"{name} for {dotted(key)}: {answer}"
