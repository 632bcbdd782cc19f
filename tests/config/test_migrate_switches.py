"""A key is told as without effect only where its own file switches off what would have read it."""

import pytest
from tests.config.migrated_keys import silent_keys, told

from easyvideor1.config import parse_config
from easyvideor1.config.migrate import migrate

PPO = """
data: {train_files: a.jsonl, rollout_batch_size: 128}
algorithm: {adv_estimator: gae, gamma: 0.99, lam: 0.95, kl_coef: 0.002, kl_type: adaptive, kl_target: 0.2}
worker:
  actor:
    global_batch_size: 64
    max_grad_norm: 1.0
    ppo_epochs: 2
    model: {model_path: /models/vl, enable_gradient_checkpointing: true}
    optim: {lr: 1e-6, weight_decay: 1e-2, lr_warmup_steps_ratio: 0.1}
    offload: {offload_params: true, offload_optimizer: true}
  critic:
    global_batch_size: 64
    cliprange_value: 0.4
    max_grad_norm: 0.5
    ppo_epochs: 3
    model: {model_path: /models/values, enable_gradient_checkpointing: true}
    optim: {lr: 1e-5, weight_decay: 0.02, lr_warmup_steps_ratio: 0.1, betas: [0.9, 0.999]}
    fsdp: {enable_full_shard: true}
    offload: {offload_params: false, offload_optimizer: true}
  rollout: {tensor_parallel_size: 1}
trainer: {critic_warmup: 5, max_steps: 100}
"""


def without_effect(text):
    return {item.key: item.reason for item in migrate(text, "old.yaml").without_effect}


def unsupported(text):
    return {item.key: item.reason for item in migrate(text, "old.yaml").unsupported}


def test_a_critic_that_trained_otherwise_than_the_policy_is_told():
    done = migrate(PPO, "ppo.yaml")
    assert [item.key for item in done.unsupported] == [
        "worker.critic.max_grad_norm",
        "worker.critic.model.model_path",
        "worker.critic.offload.offload_params",
        "worker.critic.optim.weight_decay",
        "worker.critic.ppo_epochs",
    ]
    assert all("trains as" in item.reason for item in done.unsupported) and not done.without_effect
    (stage,) = done.config.stages
    assert (stage.critic.lr, stage.critic.value_clip, stage.critic.warmup_steps) == (1e-5, 0.4, 4)
    assert (stage.advantage.gamma, stage.advantage.lam, stage.ppo_epochs) == (0.99, 0.95, 2)
    assert parse_config(done.text, "new.yaml") == done.config


def test_every_key_of_a_ppo_file_changes_the_outcome_or_is_listed():
    assert silent_keys(PPO) == set()


def test_a_critic_by_default_is_told_where_the_policy_differs():
    left = unsupported("algorithm: {adv_estimator: gae}\nworker: {actor: {ppo_epochs: 2, optim: {weight_decay: 1e-2}}}")
    assert "the critic had the default, 1.0" in left["worker.critic.ppo_epochs"]
    assert "worker.critic.optim.weight_decay" not in left


def test_a_critic_has_adapters_where_the_policy_has():
    text = "algorithm: {adv_estimator: gae}\nworker: {actor: {model: {lora: {rank: 16}}}CRITIC}"
    left = unsupported(text.replace("CRITIC", ""))
    assert left["worker.critic.model.lora.rank"].endswith("the critic had the default, 0.0")
    assert "worker.critic.model.lora.rank" not in unsupported(
        text.replace("CRITIC", ", critic: {model: {lora: {rank: 16}}}")
    )


def test_without_gae_a_critic_had_no_effect():
    text = PPO.replace("adv_estimator: gae", "adv_estimator: remax")
    idle, left = without_effect(text), unsupported(text)
    assert {key for key in told(migrate(text, "old.yaml")) if key.startswith("worker.critic.")} <= idle.keys()
    assert {"algorithm.gamma", "algorithm.lam", "worker.critic.optim.lr"} <= idle.keys()
    assert "without a critic" in left["trainer.critic_warmup"]  # it held the policy back all the same


@pytest.mark.parametrize(
    ("advantage", "gamma", "lam"),
    [
        ("grpo", "without effect", "without effect"),
        ("rloo", "without effect", "without effect"),
        ("reinforce_plus_plus", "unsupported", "without effect"),
        ("mine", "unsupported", "unsupported"),
        ("gae", "", ""),
    ],
)
def test_discounts_had_no_effect_under_advantages_that_do_not_discount(advantage, gamma, lam):
    text = f"algorithm: {{adv_estimator: {advantage}, gamma: 0.9, lam: 0.8}}\nworker: {{rollout: {{n: 4}}}}"
    lists = {"without effect": without_effect(text), "unsupported": unsupported(text)}
    for key, wanted in (("algorithm.gamma", gamma), ("algorithm.lam", lam)):
        assert [name for name, keys in lists.items() if key in keys] == ([wanted] if wanted else [])


def test_a_discount_of_1_is_what_holds():
    assert "algorithm.gamma" not in told(migrate("algorithm: {adv_estimator: reinforce_plus_plus, gamma: 1.0}", "f"))


STEERED = "kl_type: adaptive, kl_horizon: 5000, kl_target: 0.2"
STEERING = {"algorithm.kl_horizon", "algorithm.kl_target", "algorithm.kl_type"}


@pytest.mark.parametrize(
    ("options", "left", "idle"),
    [
        (f"kl_penalty: foo, {STEERED}", {"algorithm.kl_penalty", *STEERING}, set()),
        (STEERED, set(), set()),
        (f"disable_kl: true, {STEERED}", set(), STEERING),
        (f"use_kl_loss: true, kl_penalty: mse, {STEERED}", set(), STEERING),
        (f"adv_estimator: gdpo, {STEERED}", {"algorithm.kl_penalty"}, STEERING),
        ("kl_type: fixed, kl_target: 0.2", set(), {"algorithm.kl_target"}),
        (f"kl_coef: 0, {STEERED}", set(), {"algorithm.kl_horizon", "algorithm.kl_target"}),
    ],
)
def test_an_adaptive_kl_had_no_effect_where_there_was_none_in_the_reward(options, left, idle):
    text = f"algorithm: {{{options}}}\nworker: {{rollout: {{n: 4, tensor_parallel_size: 1}}}}"
    assert unsupported(text).keys() == left
    assert without_effect(text).keys() == idle


def test_an_unknown_estimator_of_early_versions_is_told_under_its_key():
    text = "algorithm: {kl_penalty: kl}\nworker: {actor: {use_kl_loss: true, kl_loss_type: foo}, rollout: {n: 4}}"
    assert "the KL estimators are" in unsupported(text)["worker.actor.kl_loss_type"]
    assert without_effect(text).keys() == {"algorithm.kl_penalty"}


@pytest.mark.parametrize(
    ("off", "on", "key"),
    [
        (
            "algorithm: {filter_mine: 1}",
            "algorithm: {filter_mine: 1, online_filtering: true}",
            "algorithm.filter_mine",
        ),
        (
            "worker: {actor: {model: {lora: {mine: 1}}}}",
            "worker: {actor: {model: {lora: {mine: 1, rank: 8}}}}",
            "worker.actor.model.lora.mine",
        ),
        (
            "worker: {rollout: {n: 1, mix_policy_accuracy_threshold: 0.5}}",
            "worker: {rollout: {n: 1, mix_policy_accuracy_threshold: 0.5, enable_mix_policy: true}}",
            "worker.rollout.mix_policy_accuracy_threshold",
        ),
    ],
)
def test_what_a_switch_reads_is_unsupported_where_it_is_on(off, on, key):
    assert key in without_effect(off) and key not in unsupported(off)
    assert key in unsupported(on) and key not in without_effect(on)
    assert " is off" not in unsupported(on)[key] and "rank is 0" not in unsupported(on)[key]
