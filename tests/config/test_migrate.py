"""Old YAML becomes the run it described; what cannot be kept is listed."""

import itertools
import math
from pathlib import Path

import pytest
import yaml

from easyvideor1.config import dump_config, parse_config
from easyvideor1.config.migrate import migrate, migrate_file
from easyvideor1.config.migrate_stage import _ADVANTAGES, _OBJECTIVES
from easyvideor1.types import ConfigError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "cases" / "configs"
OLD = """
data:
  train_files: /data/train.jsonl
  val_files: /data/val.json
  prompt_key: problem
  image_dir: /data/media
  video_fps: 1.0
  video_max_frames: 64
  max_prompt_length: 20000
  max_response_length: 4096
  rollout_batch_size: 256
  min_pixels: 3136
  image_max_pixels: 1048576
  video_max_pixels: 262144
  filter_overlong_prompts: false
  format_prompt: ./x.jinja
  seed: 7
algorithm: {adv_estimator: rloo, use_kl_loss: true, kl_penalty: low_var_kl, kl_coef: 1e-2, online_filtering: true}
worker:
  actor:
    global_batch_size: 256
    clip_ratio_high: 0.28
    loss_avg_mode: seq
    max_token_len_per_gpu: 24096
    optim: {lr: 1e-6, lr_warmup_ratio: 0.1, lr_scheduler_type: cosine}
    model: {model_path: /models/vl, freeze_vision_tower: true, trust_remote_code: false}
    fsdp: {torch_dtype: bf16, enable_full_shard: true}
  rollout: {n: 8, top_k: -1, tensor_parallel_size: 2, val_override_config: {temperature: 0.6, top_p: 0.95}}
  reward: {reward_function_kwargs: {format_weight: 0.2}}
trainer: {max_steps: 200, project_name: p, experiment_name: e, val_freq: 20, save_freq: 25, save_limit: 3}
"""


def test_values_are_translated():
    config = migrate(OLD, "old.yaml").config
    stage = config.stages[0]
    assert (config.name, config.output_dir, config.seed) == ("e", "runs/p/{name}", 7)
    assert (config.model.path, config.model.freeze, config.model.dtype) == (
        "/models/vl",
        ("vision", "merger"),
        "bfloat16",
    )
    assert config.model.gradient_checkpointing  # the old default
    assert config.data.train[0].path == "/data/train.jsonl"
    assert config.data.train[0].media_root == "/data/media"
    assert config.data.validation == config.data.test
    assert (config.data.image.min_pixels, config.data.image.max_pixels) == (3136, 1048576)
    assert (config.data.video.fps, config.data.video.max_frames, config.data.video.max_pixels) == (1.0, 64, 262144)
    assert (config.data.max_prompt_tokens, config.data.on_bad_row) == (20000, "error")
    assert (config.rollout.max_new_tokens, config.rollout.top_k) == (4096, 0)
    assert (config.rewards.accuracy_weight, config.rewards.format_weight) == (0.8, 0.2)
    assert (stage.advantage.name, stage.objective.name, stage.aggregation.name) == ("rloo", "ppo_clip", "sequence")
    assert (stage.kl.estimator, stage.kl.coef, stage.selection.drop_flat_groups) == ("k3", 0.01, True)
    assert (stage.steps, stage.prompts_per_step, stage.group_size) == (200, 256, 8)
    assert (stage.mini_batches, stage.ppo_epochs) == (1, 1)
    assert (stage.objective.clip_low, stage.objective.clip_high, stage.micro_batch_tokens) == (0.2, 0.28, 24096)
    assert (stage.optimizer.lr, stage.optimizer.warmup_steps, stage.optimizer.schedule) == (1e-6, 20, "cosine")
    assert (stage.save_every, stage.keep_checkpoints) == (25, 3)
    assert (config.evaluation.every, config.evaluation.temperature, config.evaluation.top_p) == (20, 0.6, 0.95)


def test_every_key_is_either_translated_or_listed_with_a_reason():
    migration = migrate(OLD, "old.yaml")
    assert {item.key for item in migration.unsupported} == {
        "data.format_prompt",
        "worker.rollout.tensor_parallel_size",
    }
    assert all(item.reason for item in migration.unsupported)
    for item in migration.unsupported:
        assert f"#   {item.key} ({item.value}): {item.reason}" in migration.text


def test_the_output_reads_back_to_the_configuration_it_stands_for():
    migration = migrate(OLD, "old.yaml")
    assert parse_config(migration.text, "new.yaml") == migration.config


def test_old_defaults_are_kept_where_ours_differ():
    config = migrate("worker: {}", "old.yaml").config
    assert config.data.question_key == "prompt"
    assert config.data.max_prompt_tokens == 512
    assert config.data.on_bad_row == "skip"
    assert (config.data.video.min_pixels, config.data.video.max_pixels) == (262144, 4194304)
    assert (config.stages[0].prompts_per_step, config.stages[0].group_size) == (512, 1)
    assert config.stages[0].objective.clip_high == 0.3
    assert config.stages[0].selection.drop_flat_groups is False
    assert config.seed == 1
    assert config.model.trust_remote_code is False


@pytest.mark.parametrize(
    ("old", "key", "reason"),
    [
        ("algorithm: {adv_estimator: grpo_passk}", "algorithm.adv_estimator", "another one"),
        ("worker: {actor: {loss_type: mine}}", "worker.actor.loss_type", "no counterpart"),
        ("algorithm: {use_kl_loss: true, kl_penalty: mine}", "algorithm.kl_penalty", "k1, k2, k3, abs and full"),
        ("algorithm: {filter_low: 0.1}", "algorithm.filter_low", "online_filtering is off"),
        ("data: {train_files: a.json@test}", "data.train_files", "it has no split 'test'"),
        ("data: {seed: 1}\nworker: {rollout: {seed: 2}}", "worker.rollout.seed", "one seed"),
        ("data: {image_dir: '${x.y}', train_files: a.json}", "data.image_dir", "OmegaConf"),
        ("trainer: {total_epochs: 3, max_steps: 9}", "trainer.total_epochs", "max_steps went before it"),
        ("data: {val_files: a.json}\ntrainer: {val_only: true}", "trainer.val_only", "`evr1 eval` with this file"),
        ("trainer: {val_only: true}", "trainer.val_only", "no validation files"),
        ("data: {val_files: a.json}\ntrainer: {val_before_train: false}", "trainer.val_before_train", "set data.test"),
        ("data: {video_source_mode: mine}", "data.video_source_mode", "prefer_cache, cache_only, decode_only"),
        ("worker: {actor: {fsdp: {torch_dtype: fp16}}}", "worker.actor.fsdp.torch_dtype", "float32 and bfloat16"),
        ("worker: {rollout: {presence_penalty: 1}}", "worker.rollout.presence_penalty", "evaluation has it"),
        ("trainer: {save_limit: -1}", "trainer.save_limit", "without limit"),
        ("worker: {critic: {optim: {lr: 1.0}}}", "worker.critic.optim.lr", "with gae alone"),
        ("data: {val_video_fps: 4}", "data.val_video_fps", "of which this file has none"),
        ("data: {val_batch_size: 4}", "data.val_batch_size", "batches"),
        ("data: {nonsense: 4}", "data.nonsense", "not a key"),
        ("trainer: {}\nmine: {a: 1}", "mine.a", "not a key"),
    ],
)
def test_what_has_no_counterpart_says_why(old, key, reason):
    done = migrate(old, "old.yaml")
    left = {item.key: item.reason for item in (*done.unsupported, *done.without_effect)}
    assert reason in left[key]


@pytest.mark.parametrize(
    ("old", "key", "reason"),
    [
        ("worker: {actor: {fsdp: {enable_full_shard: false}}}", "worker.actor.fsdp.enable_full_shard", "ZeRO-3"),
        ("worker: {actor: {ulysses_size: 3}}", "worker.actor.ulysses_size", "does not divide the 8 GPUs"),
        ("worker: {actor: {fsdp: {fsdp_size: 3}}}", "worker.actor.fsdp.fsdp_size", "does not divide the 8 GPUs"),
        (
            "data: {max_prompt_length: 9000}\nworker: {rollout: {max_num_batched_tokens: 9000}}",
            "worker.rollout.max_num_batched_tokens",
            "raised to 9512",
        ),
    ],
)
def test_scale_that_cannot_be_kept_says_why(old, key, reason):
    left = {item.key: item.reason for item in migrate(old, "old.yaml").unsupported}
    assert reason in left[key]


@pytest.mark.parametrize("name", ["ulysses_size", "ulysses_sequence_parallel_size"])
def test_sequence_parallelism_arrives_under_its_name(name):
    done = migrate(f"worker: {{actor: {{{name}: 4}}, rollout: {{n: 4, tensor_parallel_size: 1}}}}", "old.yaml")
    assert done.config.cluster.sequence_parallel == 4 and not done.unsupported


@pytest.mark.parametrize(
    ("actor", "reference", "gpus", "offload", "left", "idle"),
    [
        ("offload: {offload_optimizer: true}", "", 8, ("optimizer",), [], []),
        ("fsdp: {enable_cpu_offload: true}", "", 8, ("parameters",), [], []),
        (
            "fsdp: {enable_cpu_offload: true}, offload: {offload_params: true}",
            "offload: {offload_params: true}",
            8,
            ("parameters",),
            [],
            ["worker.actor.offload.offload_params"],
        ),
        ("", "fsdp: {enable_cpu_offload: true}", 8, (), ["worker.ref.fsdp.enable_cpu_offload"], []),
        (
            "offload: {offload_params: true}",
            "offload: {offload_params: false}",
            8,
            ("parameters",),
            ["worker.ref.offload.offload_params"],
            [],
        ),
        ("offload: {offload_params: true}", "", 1, (), ["worker.actor.offload.offload_params"], []),
    ],
)
def test_what_is_kept_on_the_host(actor, reference, gpus, offload, left, idle):
    old = f"""
worker: {{actor: {{{actor}}}, ref: {{{reference}}}, rollout: {{n: 4, tensor_parallel_size: 1}}}}
trainer: {{n_gpus_per_node: {gpus}}}
"""
    done = migrate(old, "old.yaml")
    assert done.config.model.offload == offload
    assert [item.key for item in done.unsupported] == left
    assert [item.key for item in done.without_effect] == idle


@pytest.mark.parametrize(
    ("rollout", "gpus", "left"),
    [
        ("{n: 4}", 8, ["not set"]),
        ("{n: 4, tensor_parallel_size: 4}", 8, ["4"]),
        ("{n: 4, tensor_parallel_size: 1}", 8, []),
        ("{n: 4}", 1, []),
    ],
)
def test_engines_of_more_than_one_gpu_are_told_even_by_default(rollout, gpus, left):
    done = migrate(f"worker: {{rollout: {rollout}}}\ntrainer: {{n_gpus_per_node: {gpus}}}", "old.yaml")
    assert done.config.rollout.tensor_parallel_size == 1
    assert [item.key for item in done.unsupported] == ["worker.rollout.tensor_parallel_size"] * len(left)
    assert [item.value for item in done.unsupported] == left
    assert all(item.reason.startswith("the default, 2,") for item in done.unsupported if item.value == "not set")


def test_one_gpu_has_the_engine_in_a_process_of_its_own():
    done = migrate("worker: {rollout: {n: 4, tensor_parallel_size: 1}}\ntrainer: {n_gpus_per_node: 1}", "old.yaml")
    assert (done.config.cluster.ranks, done.config.cluster.placement) == (1, "auto")
    assert (done.config.rollout.workers, done.config.rollout.placement) == (1, "process")
    assert not done.unsupported


def test_a_shard_of_a_part_of_the_ranks():
    rollout = "{n: 4, tensor_parallel_size: 1}"
    old = f"worker: {{actor: {{fsdp: {{fsdp_size: 8}}}}, rollout: {rollout}}}\ntrainer: {{nnodes: 4}}"
    done = migrate(old, "old.yaml")
    cluster = done.config.cluster
    assert (cluster.nodes, cluster.gpus_per_node, cluster.ranks, cluster.shard_size) == (4, 8, 32, 8)
    assert done.config.rollout.workers == 32
    assert not done.unsupported


@pytest.mark.parametrize(
    ("old", "mode", "idle"),
    [
        ("{use_preprocessed_videos: true}", "prefer_cache", []),
        ("{use_preprocessed_videos: false}", "decode_only", []),
        ("{use_preprocessed_videos: true, video_source_mode: preprocessed_only}", "cache_only", []),
        (
            "{use_preprocessed_videos: false, video_source_mode: preprocessed_only}",
            "cache_only",
            ["data.use_preprocessed_videos"],
        ),
    ],
)
def test_the_earlier_switch_of_the_frame_cache(old, mode, idle):
    done = migrate(f"data: {old}", "old.yaml")
    assert done.config.cache.mode == mode
    assert [item.key for item in done.without_effect] == idle
    assert not [item for item in done.unsupported if item.key.startswith("data.")]


@pytest.mark.parametrize(
    ("old", "updates"),
    [
        ("trainer: {}", (2, 1)),  # 512 prompts in updates of 256, as its defaults were
        ("worker: {actor: {global_batch_size: 64, ppo_epochs: 3}}\ndata: {rollout_batch_size: 256}", (4, 3)),
        ("worker: {actor: {global_batch_size: 64}}\ndata: {rollout_batch_size: 32}", (1, 1)),
    ],
)
def test_updates_of_a_rollout(old, updates):
    stage = migrate(old, "old.yaml").config.stages[0]
    assert (stage.mini_batches, stage.ppo_epochs) == updates


def test_every_combination_of_algorithms_loads():
    """What the old files could say of advantage, loss, KL and mixed groups makes a stage, whatever is left behind."""
    choices = {
        "algorithm.adv_estimator": [*_ADVANTAGES, "grpo_passk"],
        "worker.actor.loss_type": list(_OBJECTIVES),
        "algorithm.disable_kl": [False, True],
        "algorithm.use_kl_loss": [False, True],
        "algorithm.kl_penalty": ["kl", "low_var_kl", "full"],
        "worker.rollout.n": [1, 4],
    }
    count = 0
    for values in itertools.product(*choices.values()):
        old = {}
        for key, value in zip(choices, values, strict=True):
            place = old
            *above, last = key.split(".")
            for name in above:
                place = place.setdefault(name, {})
            place[last] = value
        stage = migrate(yaml.safe_dump(old), "old.yaml").config.stages[0]
        count += stage.group_size == values[-1]
    assert count == math.prod(map(len, choices.values())) > 500


def test_kl_estimators():
    assert migrate("algorithm: {kl_penalty: kl}", "f").config.stages[0].kl.estimator == "k1"
    for old, new in {"kl": "k2", "mse": "k2", "low_var_kl": "k3"}.items():
        stage = migrate(f"algorithm: {{use_kl_loss: true, kl_penalty: {old}}}", "f").config.stages[0]
        assert (stage.kl.estimator, stage.kl.coef) == (new, 1e-3)
    assert migrate("algorithm: {disable_kl: true, use_kl_loss: true}", "f").config.stages[0].kl.estimator == "none"


def test_translated_names_are_registered():
    from easyvideor1.algorithms import advantages, objectives
    from easyvideor1.config import migrate_stage as room

    assert set(room._ADVANTAGES.values()) <= set(advantages.ADVANTAGES.names())
    assert set(room._OBJECTIVES.values()) <= set(objectives.OBJECTIVES.names())


@pytest.mark.parametrize(
    ("rollout", "evaluation"),
    [
        ("{}", {"temperature": 1.0, "samples": 1, "top_p": None, "top_k": None}),
        ("{temperature: 0.9, top_p: 0.5}", {"temperature": 0.9, "top_p": None}),  # null is the rollout's
        (
            "{val_override_config: {temperature: 0.7, top_p: 0.8, top_k: -1, n: 4}}",
            {"temperature": 0.7, "top_p": 0.8, "top_k": 0, "samples": 4},
        ),
        ("{top_k: 9, val_override_config: {top_k: 20}}", {"top_k": 20}),
        (
            "{val_override_config: {repetition_penalty: 1.1, presence_penalty: 1.5, frequency_penalty: -0.5}}",
            {"repetition_penalty": 1.1, "presence_penalty": 1.5, "frequency_penalty": -0.5},
        ),
        ("{val_override_config: {temperature: 0, n: 1}}", {"samples": 0}),
    ],
)
def test_how_validation_was_sampled(rollout, evaluation):
    done = migrate(f"worker: {{rollout: {rollout}}}", "old.yaml")
    found = done.config.evaluation
    assert {name: getattr(found, name) for name in evaluation} == evaluation
    assert not [item.key for item in done.unsupported if "val_override_config" in item.key]


def test_what_validation_cannot_say_is_listed():
    done = migrate("worker: {rollout: {val_override_config: {temperature: 0, n: 4, min_p: 0.1}}}", "old.yaml")
    left = {item.key.rpartition(".")[2]: item.reason for item in done.unsupported if "val_override_config" in item.key}
    assert left.keys() == {"n", "min_p"} and "all the same" in left["n"]


def test_validation_videos_have_a_budget_of_their_own():
    old = "data: {train_files: a.json, val_files: v.json, video_fps: 1, val_video_fps: 4, val_video_max_frames: 2}"
    done = migrate(old, "old.yaml")
    (source,) = done.config.data.validation
    assert (source.video.fps, source.video.max_frames, source.video.min_frames) == (4, 2, 2)
    assert done.config.data.test[0].video == source.video and done.config.data.train[0].video.fps is None
    assert not [item.key for item in done.unsupported if item.key.startswith("data.")]


@pytest.mark.parametrize(
    ("trainer", "tested"),
    [("{}", True), ("{val_before_train: false}", False), ("{val_before_train: false, val_only: true}", True)],
)
def test_both_ends_are_measured_as_they_were(trainer, tested):
    data = migrate(f"data: {{val_files: v.json}}\ntrainer: {trainer}", "old.yaml").config.data
    assert data.validation and (data.test == data.validation) is tested


def test_sapo_has_gates_in_place_of_a_clip_range():
    actor = "{loss_type: sapo, tau_positive: 0.9, clip_ratio_low: 0.1, clip_ratio_dual: 3}"
    done = migrate(f"worker: {{actor: {actor}, rollout: {{n: 4}}}}", "old.yaml")
    (stage,) = done.config.stages
    assert (stage.objective.name, stage.objective.tau_positive, stage.objective.tau_negative) == ("sapo", 0.9, 1.05)
    assert [item.key for item in done.without_effect] == ["worker.actor.clip_ratio_dual", "worker.actor.clip_ratio_low"]


@pytest.mark.parametrize(
    ("fsdp", "dtype"),
    [
        ("{}", "bfloat16"),
        ("{mp_param_dtype: fp32}", "float32"),
        ("{torch_dtype: fp32}", "bfloat16"),
        ("{torch_dtype: bf16, mp_param_dtype: fp32}", "bfloat16"),
    ],
)
def test_what_was_computed_in_bfloat16_is(fsdp, dtype):
    assert migrate(f"worker: {{actor: {{fsdp: {fsdp}}}}}", "old.yaml").config.model.dtype == dtype


def test_preprocessed_only_means_that_a_miss_is_an_error():
    assert migrate("data: {video_source_mode: preprocessed_only}", "f").config.cache.mode == "cache_only"
    assert migrate("data: {video_source_mode: realtime_only}", "f").config.cache.mode == "decode_only"


def test_a_newline_in_a_key_stays_inside_the_comment():
    migration = migrate('trainer: {"a\\nseed: 9": 1}', "f")
    assert parse_config(migration.text, "f") == migration.config


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("a: 1", "not a YAML file of EasyR1"),
        ("data:\n  video_fps: fast", "f:2: data.video_fps: expected a number, got 'fast'"),
        ("data:\n  seed: 1.5", "f:2: data.seed: expected a whole number"),
        ("algorithm:\n  disable_kl: maybe", "f:2: algorithm.disable_kl: expected true or false"),
        ("worker:\n  rollout: {temperature: 0}", "rollout.temperature: expected greater than or equal to 0.01"),
    ],
)
def test_wrong_values_are_named(old, message):
    with pytest.raises(ConfigError) as error:
        migrate(old, "f")
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        migrate_file(tmp_path / "none.yaml")


@pytest.mark.parametrize("written", ["[0.9, 0.95]", "(0.9, 0.95)", "0.9, 0.95"])
def test_betas_may_be_a_list_or_the_text_of_a_tuple(written):
    stage = migrate(f"worker: {{actor: {{optim: {{betas: '{written}'}}}}}}", "old.yaml").config.stages[0]
    assert stage.optimizer.betas == (0.9, 0.95)


@pytest.mark.parametrize(
    ("old", "message"),
    [
        ("worker: {actor: {optim: {betas: 0.9}}}", r"old\.yaml:1: worker\.actor\.optim\.betas: expected 2 numbers"),
        ("worker: {actor: {optim: {betas: [0.9]}}}", "expected 2 numbers"),
        ("worker: {actor: {optim: {betas: [0.9, x]}}}", "expected 2 numbers"),
        ("worker: {actor: {optim: {betas: [0.9, .nan]}}}", "expected 2 numbers"),
        ("worker: {actor: {optim: {betas: {a: 0.9}}}}", "expected 2 numbers"),
        ("trainer: {max_steps: .inf}", r"old\.yaml:1: trainer\.max_steps: expected a number"),
        ("trainer: {max_steps: .nan}", "expected a number"),
        ("trainer: {max_steps: inf}", "expected a number"),
        (f"trainer: {{max_steps: {10**400}}}", "expected a number"),
        ("data: {train_files: {a: b}}", r"old\.yaml:1: data\.train_files: expected a path or a list of paths"),
        ("data: {train_files: [a.json, 3]}", "expected a path or a list of paths"),
    ],
)
def test_values_of_the_wrong_kind_are_told_with_their_line(old, message):
    with pytest.raises(ConfigError, match=message):
        migrate(old, "old.yaml")


def test_every_file_of_a_list_is_a_source():
    old = "data: {train_files: [a.jsonl, 'b.json@train'], val_files: [c.parquet, d.json], image_dir: /m}"
    done = migrate(old, "old.yaml")
    data = done.config.data
    assert [source.path for source in data.train] == ["a.jsonl", "b.json"]
    assert (
        [source.path for source in data.validation] == [source.path for source in data.test] == ["c.parquet", "d.json"]
    )
    assert {source.media_root for source in (*data.train, *data.test)} == {"/m"}
    assert not [
        item.key for item in done.unsupported if item.key.startswith("data.")
    ]  # the one split of a file is train


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a.json", "a.json"),
        ("a.json@train", "a.json"),
        ("owner/name@test", "owner/name@test"),
        ("owner/name", "owner/name@train"),
        ("/data/shards@train", "/data/shards@train"),
        ("/data/shards", "/data/shards"),
        ("./shards", "./shards"),
    ],
)
def test_splits_stay_behind_their_paths(old, new):
    done = migrate(f"data: {{train_files: '{old}', val_files: ['{old}']}}", "old.yaml")
    assert [source.path for source in (*done.config.data.train, *done.config.data.test)] == [new, new]
    assert not [item.key for item in done.unsupported if item.key.startswith("data.")]


@pytest.mark.parametrize("section", ["model: {path: m}", "rollout: {n: 8}"])
def test_a_file_of_verl_is_refused(section):
    text = f"data: {{train_files: a.jsonl}}\nactor_rollout_ref: {{{section}}}\ntrainer: {{nnodes: 1}}"
    with pytest.raises(ConfigError, match=r"f: section actor_rollout_ref: this is a YAML file of verl.*howto/migrate"):
        migrate(text, "f")


@pytest.mark.parametrize("actor", ["worker: {actor: ", "actor_rollout_ref: {actor: "])
def test_saving_is_translated_from_the_keys_of_verl_too(actor):
    checkpoint = "{checkpoint: {async_save: true, save_contents: [model]}}}"
    done = migrate(f"trainer: {{save_freq: 5, max_actor_ckpt_to_keep: 2}}\n{actor}{checkpoint}", "f")
    (stage,) = done.config.stages
    assert (stage.save_every, stage.keep_checkpoints, stage.async_save) == (5, 2, True)
    left = {item.key.partition("checkpoint.")[2] for item in done.unsupported if "checkpoint" in item.key}
    assert left == {"save_contents"}


def test_algorithms_are_translated():
    stage = migrate(
        """
algorithm: {adv_estimator: gae, gamma: 0.9, lam: 0.8, kl_penalty: full, kl_type: adaptive, online_filtering: true}
worker:
  actor: {loss_type: gspo, loss_avg_mode: token, clip_ratio_dual: 5.0}
  critic: {optim: {lr: 2e-6}, cliprange_value: 0.4}
  rollout: {n: 8, enable_mix_policy: true, mix_policy_accuracy_threshold: 0.25}
trainer: {critic_warmup: 3, max_try_make_batch: 5}
""",
        "f",
    ).config.stages[0]
    assert (stage.advantage.name, stage.advantage.gamma, stage.advantage.lam) == ("gae", 0.9, 0.8)
    assert (stage.critic.lr, stage.critic.value_clip, stage.critic.warmup_steps) == (2e-6, 0.4, 2)
    assert (stage.objective.name, stage.aggregation.name) == ("gspo_token", "sequence")
    assert (stage.kl.estimator, stage.kl.placement, stage.kl.control, stage.kl.target) == (
        "full",
        "reward",
        "adaptive",
        0.1,
    )
    assert (stage.selection.filter_key, stage.selection.filter_low, stage.selection.filter_high) == (
        "total",
        0.01,
        0.99,
    )
    assert (stage.selection.generation_rounds, stage.hybrid.policy, stage.hybrid.threshold) == (5, "below", 0.25)
    mixed = migrate("worker: {rollout: {n: 8, enable_mix_policy: true}}", "f").config.stages[0]
    assert mixed.hybrid.policy == "replace-last" and mixed.kl.placement == "reward" and mixed.objective.clip_dual == 3.0
    parts = migrate(
        "algorithm: {adv_estimator: gdpo, gdpo_reward_keys: [accuracy]}\nworker: {rollout: {n: 4}}", "f"
    ).config.stages[0]
    assert parts.advantage.part_weights == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("old", "key", "options"),
    [
        ("algorithm: {use_kl_loss: true}\nworker: {rollout: {n: 4}}", "algorithm.kl_penalty", {"kl.estimator": "k2"}),
        (
            "algorithm: {adv_estimator: gdpo}\nworker: {rollout: {n: 4}}",
            "algorithm.kl_penalty",
            {"kl.estimator": "none"},
        ),
        (
            "algorithm: {adv_estimator: gdpo, gdpo_reward_keys: [accuracy, style]}\nworker: {rollout: {n: 4}}",
            "algorithm.gdpo_reward_keys",
            {"advantage.part_weights": {"accuracy": 1.0}},
        ),
        (
            "algorithm: {online_filtering: true, filter_key: style}\nworker: {rollout: {n: 4}}",
            "algorithm.filter_key",
            {"selection.filter_key": "accuracy"},
        ),
        (
            "algorithm: {kl_type: adaptive, kl_horizon: 100}\nworker: {rollout: {n: 4}}",
            "algorithm.kl_horizon",
            {"kl.horizon": 20_480},
        ),
        (
            "algorithm: {adv_estimator: gae}\ntrainer: {critic_warmup: 21, max_steps: 20}",
            "trainer.critic_warmup",
            {"steps": 20},
        ),
        ("algorithm: {adv_estimator: grpo}", "worker.rollout.n", {"advantage.name": "reward", "group_size": 1}),
        (
            "algorithm: {adv_estimator: gae}\nworker: {actor: {loss_type: gspo}}",
            "worker.actor.loss_type",
            {"objective.name": "gspo_token"},
        ),
        (
            "worker: {actor: {loss_type: gspo, clip_ratio_dual: 4.0}, rollout: {n: 4}}",
            "worker.actor.clip_ratio_dual",
            {"objective.name": "gspo"},
        ),
        (
            "worker: {actor: {clip_ratio_dual: 1.1}, rollout: {n: 4}}",
            "worker.actor.clip_ratio_dual",
            {"objective.clip_dual": None, "objective.clip_high": 0.3},
        ),
    ],
)
def test_what_no_stage_may_say_is_left_behind_with_a_reason(old, key, options):
    done = migrate(old, "old.yaml")
    (stage,) = done.config.stages
    for path, value in options.items():
        found = stage
        for word in path.split("."):
            found = getattr(found, word)
        assert found == value, path
    assert key in {item.key for item in done.unsupported}
    assert parse_config(done.text, "new.yaml") == done.config


def with_model(text):
    return migrate(f"worker:\n  actor:\n    model: {{{text}}}\n", "f").config.model


def test_adapters_arrive_and_the_merger_is_frozen_with_the_tower():
    lora = with_model("lora: {rank: 16, alpha: 32, target_modules: all-linear}").lora
    assert (lora.rank, lora.alpha, lora.targets) == (16, 32.0, ("vision", "merger", "language"))
    assert with_model("lora: {rank: 16, exclude_modules: '.*visual.*'}").lora.targets == ("language",)
    both = with_model("freeze_vision_tower: true, lora: {rank: 8}")
    assert both.lora.targets == ("language",) and both.freeze == ()
    assert with_model("lora: {rank: 0}").lora is None
    found = migrate("worker:\n  actor:\n    model: {lora: {rank: 8, target_modules: [q_proj]}}\n", "f")
    assert [left.key for left in found.unsupported if "lora" in left.key] == ["worker.actor.model.lora.target_modules"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no case files at ../shared/cases/configs")
def test_a_file_whose_adapters_were_lost_elsewhere():
    found = migrate_file(SHARED / "easyr1_lora.yaml")
    assert (found.config.model.lora.rank, found.config.model.lora.alpha) == (16, 32.0)
    assert not any("lora" in left.key for left in found.unsupported)


EARLIER = """
name: mine
data: {train: [{path: rows.jsonl}]}
stages:
  - name: sft
    trajectories: offline
    advantage: ones
    objective: sft
    clip_low: 0.2
    clip_dual: null
  - name: rl
    advantage: gdpo
    part_weights: {accuracy: 0.7, format: 0.3}
    advantage_clip: 5.0
    objective: luffy
    off_policy: luffy
    luffy_gamma: 0.2
    clip_high: 0.3
    aggregation: fixed
    aggregation_length: 512
    kl: k3
    kl_coef: 0.01
    filter_low: 0.1
    overlong_filter: true
    hybrid: {}
"""


def test_an_earlier_version_arrives_with_its_options_where_they_are_read():
    done = migrate(EARLIER, "run.yaml")
    first, second = done.config.stages
    assert [item.key for item in done.unsupported] == ["stages.0.clip_low", "stages.0.clip_dual"]
    assert second.advantage.model_dump() == {
        "name": "gdpo",
        "clip": 5.0,
        "part_weights": {"accuracy": 0.7, "format": 0.3},
    }
    assert (second.objective.name, second.objective.gamma, second.objective.clip_high) == ("luffy", 0.2, 0.3)
    assert (second.off_policy.name, second.aggregation.length) == ("none", 512)
    assert (second.kl.estimator, second.kl.coef) == ("k3", 0.01)
    assert second.selection.filter_low == 0.1 and second.overlong.filter and first.objective.name == "sft"
    assert parse_config(done.text, "new.yaml") == done.config


@pytest.mark.parametrize(("written", "kept"), [("", "transformers"), ("released", "released")])
def test_an_earlier_version_keeps_the_convention_of_its_prompts(written, kept):
    text = EARLIER + (f"model: {{conventions: {written}}}\n" if written else "model: {path: m}\n")
    done = migrate(text, "run.yaml")
    assert done.config.model.conventions == kept
    assert parse_config(done.text, "new.yaml") == done.config
    assert ("was the default" in done.text) == (not written)


def test_other_frameworks_have_the_released_convention():
    assert migrate("data: {}", "old.yaml").config.model.conventions == "released"


def test_a_configuration_of_this_version_stays_what_it_is():
    text = dump_config(migrate(EARLIER, "run.yaml").config)
    again = migrate(text, "new.yaml")
    assert again.unsupported == () and dump_config(again.config) == text


def test_options_of_a_function_of_ones_own_go_along():
    (stage,) = migrate("stages: [{name: rl, objective: 'mine:loss', clip_low: 0.3, kl: none}]", "f").config.stages
    assert stage.objective.model_extra == {"clip_low": 0.3}


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        ("objective: 'mine:loss', kl: none, kl_coef: 0.01, kl_in: reward", ["kl_coef", "kl_in"]),
        ("kl_control: adaptive, kl_target: 0.2, kl_horizon: 99999", ["kl_control", "kl_target", "kl_horizon"]),
        ("kl: k3, kl_coef: 0.01, kl_target: 0.2", ["kl_target"]),
        ("reference: ema, reference_decay: 0.9", ["reference", "reference_decay"]),
        ("filter_key: format", ["filter_key"]),
        ("overlong_penalty: 0.5, overlong_cache: 0", ["overlong_penalty"]),
        ("objective: dpo, advantage: reward, aggregation: sequence, reference: ema, reference_decay: 0.9", []),
        ("filter_key: format, filter_low: 0.1, overlong_penalty: 0.5, overlong_cache: 8", []),
    ],
)
def test_an_option_without_the_one_that_it_goes_with_is_listed(options, unused):
    found = migrate(f"stages: [{{name: rl, {options}}}]", "f")
    assert [left.key for left in found.unsupported] == [f"stages.0.{key}" for key in unused]


@pytest.mark.parametrize(
    "options", ["advantage: [x], gamma: 0.3", "advantage: [x], advantage_clip: 3", "kl: [x], kl_coef: 1"]
)
def test_a_section_that_is_none_is_named(options):
    with pytest.raises(ConfigError, match=r"stages\.0\.(advantage|kl)"):
        migrate(f"stages: [{{name: rl, {options}}}]", "f")
