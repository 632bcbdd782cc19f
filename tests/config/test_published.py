"""The configurations that people have: those published with EasyVideoR1 and EasyR1, as they are.

All keys and values of ``published/`` were taken from the published files themselves, none from memory.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.config.migrated_keys import silent_keys

from easyvideor1.config import load_config, located, parse_config
from easyvideor1.config.migrate import migrate, migrate_file
from easyvideor1.config.paths import require_sources
from easyvideor1.config.unsupported_keys import HOLDS, REASONS
from easyvideor1.data import load_source, prompt_text
from easyvideor1.types import ConfigError, DataError

PUBLISHED = Path(__file__).with_name("published")
FILES = sorted(PUBLISHED.glob("*.yaml"))

#: Keys that every file has, and that have no counterpart.
LEFT_OF_ALL = {
    "trainer.val_generations_to_log",
    "worker.actor.fsdp.enable_rank0_init",
    "worker.rollout.tensor_parallel_size",
}
#: The same for the three files in today's format.
LEFT_OF_TODAYS = LEFT_OF_ALL | {
    "data.format_prompt",
    "data.val_batch_size",
}
#: File -> its keys that have no counterpart.
UNSUPPORTED = {
    "video_rl.yaml": LEFT_OF_TODAYS
    | {
        "data.preprocessed_video_dir",
        "trainer.find_last_checkpoint",
        "worker.rollout.disable_tqdm",
        "worker.rollout.limit_images",
    },
    "unified_rl.yaml": LEFT_OF_TODAYS,
    "easyr1.yaml": LEFT_OF_TODAYS | {"worker.ref.fsdp.enable_rank0_init", "worker.reward.reward_function"},
    "easyr1_early.yaml": LEFT_OF_ALL
    | {
        "trainer.remove_previous_ckpt",
        "worker.ref.fsdp.enable_rank0_init",
        "worker.reward.compute_score",
        "worker.reward.reward_type",
    },
}
FILTER = {
    "algorithm.filter_high",
    "algorithm.filter_key",
    "algorithm.filter_low",
    "trainer.max_try_make_batch",
}
KL = {"algorithm.kl_coef", "algorithm.kl_penalty"}
#: File -> its keys that had no effect in the old run either.
WITHOUT_EFFECT = {
    "video_rl.yaml": FILTER
    | KL
    | {
        "worker.actor.micro_batch_size_per_device_for_experience",
        "worker.actor.micro_batch_size_per_device_for_update",
        "worker.ref.fsdp.enable_rank0_init",
    },
    "unified_rl.yaml": FILTER
    | KL
    | {"algorithm.use_kl_loss", "worker.ref.fsdp.enable_cpu_offload", "worker.ref.fsdp.enable_rank0_init"},
    "easyr1.yaml": FILTER
    | {f"worker.actor.model.lora.{name}" for name in ("alpha", "exclude_modules", "target_modules")},
    "easyr1_early.yaml": {"algorithm.kl_coef"},
}


def reasons(name):
    return {item.key: item.reason for item in migrate_file(PUBLISHED / name).unsupported}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_stays_behind(path):
    done = migrate_file(path)
    left, idle = done.unsupported, done.without_effect
    assert {item.key for item in left} == UNSUPPORTED[path.name]
    assert {item.key for item in idle} == WITHOUT_EFFECT[path.name]
    assert len(left) <= 10
    assert not any("not a key of" in item.reason for item in (*left, *idle))
    for item in (*left, *idle):
        assert f"#   {item.key} ({item.value}): {item.reason}" in done.text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_migrated_file_loads_though_its_rows_and_model_are_elsewhere(path, tmp_path):
    done = migrate_file(path)
    written = tmp_path / "new.yaml"
    written.write_text(done.text)
    config = load_config(written)
    assert config == done.config and located(config).stages == config.stages
    if path.name in ("video_rl.yaml", "unified_rl.yaml"):
        with pytest.raises(DataError, match=r"/path/to/your/train_data\.jsonl: no such data file"):
            require_sources(config, config.data.train)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_key_changes_the_outcome_or_is_listed(path):
    """Each value of a file is changed in turn: nothing that was said may vanish without a word."""
    # Both kinds of media have limits of their own in this file, so that the common one was without effect.
    without_effect = {"data.max_pixels"} if path.name == "video_rl.yaml" else set()
    assert silent_keys(path.read_text()) == without_effect


def test_video_rl_arrives():
    config = migrate_file(PUBLISHED / "video_rl.yaml").config
    (stage,) = config.stages
    assert (stage.epochs, stage.steps, stage.prompts_per_step, stage.group_size) == (10, None, 256, 8)
    assert (stage.kl.estimator, stage.hybrid, stage.micro_batch_tokens, stage.mini_batches) == ("none", None, 24096, 1)
    assert (stage.save_every, stage.keep_checkpoints) == (20, 10)
    shown = config.evaluation
    assert (shown.every, shown.samples, shown.temperature, shown.top_p, shown.top_k) == (10, 1, 0.7, 0.95, None)
    assert config.data.test == config.data.validation != ()
    assert (config.loggers, config.project, config.seed) == (("wandb",), "video_rl", 42)
    assert (config.model.dtype, config.cache.mode) == ("bfloat16", "prefer_cache")
    found = reasons("video_rl.yaml")
    assert "_base.j2" in found["data.format_prompt"] and "prompts.templates" in found["data.format_prompt"]
    assert (config.rewards.profile, config.data.shuffle) == ("easyvideor1-video", False)
    assert (
        "rewards.profile: easyvideor1-video scores as the published file did"
        in migrate_file(PUBLISHED / "video_rl.yaml").text
    )


def test_unified_rl_arrives():
    config = migrate_file(PUBLISHED / "unified_rl.yaml").config
    shown = config.evaluation
    assert (shown.every, shown.samples, shown.temperature, shown.top_p, shown.top_k) == (5, 1, 0.7, 0.8, 20)
    assert (shown.repetition_penalty, shown.presence_penalty, shown.frequency_penalty) == (1.0, 1.5, 0.0)
    assert (config.stages[0].epochs, config.stages[0].mini_batches) == (10, 2)
    assert config.data.train[0].media_root == "/path/to/your/image_dir"
    assert (config.rewards.profile, config.cache.mode) == ("easyvideor1-unified", "decode_only")


@pytest.mark.parametrize(
    ("name", "share", "longest", "step", "chunked", "tokens"),
    [
        ("video_rl.yaml", 0.8, 24_096, 25_000, False, (24_096, None)),
        ("unified_rl.yaml", 0.8, 32_768, 32_768, True, (32_768, 32_768)),
        ("easyr1.yaml", 0.6, 4096, 8192, False, (4096, 8192)),
    ],
)
def test_scale_arrives(name, share, longest, step, chunked, tokens):
    """Eight GPUs, each with a rank and an engine of vLLM; micro-batches of as many padded sequences."""
    config = migrate_file(PUBLISHED / name).config
    cluster, rollout, engine = config.cluster, config.rollout, config.rollout.vllm
    assert (cluster.ranks, cluster.nodes, cluster.gpus_per_node, cluster.shard_size) == (8, 1, 8, 0)
    assert (cluster.placement, rollout.placement) == ("ray", "ray")
    assert (rollout.engine, rollout.workers, rollout.tensor_parallel_size) == ("vllm", 8, 1)
    assert 0 < cluster.engine_share(rollout.workers, rollout.gpus_per_worker) < 1
    assert (engine.gpu_memory_utilization, engine.enforce_eager, engine.chunked_prefill) == (share, False, chunked)
    assert (engine.max_model_len, engine.max_num_batched_tokens) == (longest, step)
    assert config.model.offload == (() if name == "video_rl.yaml" else ("optimizer", "parameters"))
    (stage,) = config.stages
    assert (stage.micro_batch_tokens, stage.logprob_micro_batch_tokens) == tokens


@pytest.fixture
def math12k(tmp_path, monkeypatch):
    """The data set of EasyR1's file in the working directory, two rows of it, as it is downloaded."""
    monkeypatch.chdir(tmp_path)
    for split, answers in (("train", ["2", "5"]), ("test", ["8"])):
        file = tmp_path / f"hiyouga/math12k/data/{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"problem": [f"What makes {answer}?" for answer in answers], "answer": answers}), file)
    return migrate_file(PUBLISHED / "easyr1.yaml").config


def test_easyr1_arrives_with_its_splits(math12k):
    (stage,) = math12k.stages
    assert (stage.epochs, stage.group_size, stage.kl.estimator, stage.kl.placement, stage.kl.coef) == (
        15,
        5,
        "k3",
        "loss",
        0.01,
    )
    shown = math12k.evaluation
    assert (shown.temperature, shown.top_p, math12k.model.lora, math12k.loggers) == (0.6, 0.95, None, ("wandb",))
    require_sources(math12k, math12k.data.train)
    for source, answers in ((math12k.data.train[0], ["2", "5"]), (math12k.data.test[0], ["8"])):
        samples = load_source(source, math12k.data).samples
        assert [(sample.task, sample.answer) for sample in samples] == [("math", answer) for answer in answers]


def test_their_template_becomes_the_base_of_all(math12k, tmp_path):
    """What the reason for format_prompt says works: one file, with question for content."""
    theirs = "{{ content | trim }} Think first, in <think> </think>. Put the final answer in <answer> </answer>."
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "_base.j2").write_text(theirs.replace("content", "question"))
    (sample,) = load_source(math12k.data.test[0], math12k.data).samples
    prompts = math12k.prompts.model_copy(update={"templates": str(templates)})
    assert prompt_text(sample, prompts) == theirs.replace("{{ content | trim }}", "What makes 8?")


def test_early_keys_point_to_their_successors():
    config = migrate_file(PUBLISHED / "easyr1_early.yaml").config
    (stage,) = config.stages
    assert (stage.epochs, stage.objective.entropy_coef) == (15, 0.001)
    assert (stage.kl.estimator, stage.kl.placement, stage.kl.coef) == ("k3", "loss", 0.01)
    assert config.data.train[0].task == "math"  # of compute_score
    found = reasons("easyr1_early.yaml")
    assert "rewards.custom" in found["worker.reward.compute_score"]
    assert "keep_checkpoints" in found["trainer.remove_previous_ckpt"]


def test_an_early_name_gives_way_to_the_later_one():
    done = migrate(
        "trainer: {total_episodes: 3, total_epochs: 2}\nworker: {rollout: {n: 4, tensor_parallel_size: 1}}", "old.yaml"
    )
    assert done.config.stages[0].epochs == 2
    (left,) = done.unsupported
    assert (left.key, left.value) == ("trainer.total_episodes", "3") and "trainer.total_epochs" in left.reason
    with pytest.raises(ConfigError, match=r"old\.yaml:2: trainer\.total_epochs: expected a number"):
        migrate("trainer:\n  total_episodes: many", "old.yaml")


def test_early_scores_and_rates():
    old = """
data: {train_files: a.jsonl, system_prompt: Be brief.}
worker:
  actor: {clip_ratio: 0.25, optim: {lr_warmup_steps_ratio: 0.1, warmup_style: cosine}}
  rollout: {n: 4, tensor_parallel_size: 1}
  reward:
    score_function: ./examples/score_function/r1v.py:compute_score
    score_function_kwargs: {format_weight: 0.5}
trainer: {total_episodes: 4, test_freq: 7}
"""
    done = migrate(old, "old.yaml")
    (stage,) = done.config.stages
    assert (stage.objective.clip_low, stage.objective.clip_high, stage.epochs) == (0.25, 0.25, 4)
    assert (stage.optimizer.warmup_ratio, stage.optimizer.schedule) == (0.1, "cosine")
    assert (done.config.rewards.format_weight, done.config.evaluation.every) == (0.5, 7)
    assert (done.config.prompts.system, done.config.data.train[0].task) == ("Be brief.", "math")
    assert [item.key for item in done.unsupported] == ["worker.reward.score_function"]


def test_a_limit_of_the_engine_below_those_of_rows_is_raised():
    old = "data: {train_files: a.jsonl, max_prompt_length: 900, max_response_length: 100}\nworker: {rollout: "
    done = migrate(old + "{max_model_len: 800}}", "old.yaml")
    assert done.config.rollout.vllm.max_model_len == 1000
    assert ("worker.rollout.max_model_len", "800") in [(item.key, item.value) for item in done.unsupported]
    assert migrate(old + "{max_model_len: 1200}}", "old.yaml").config.rollout.vllm.max_model_len == 1200


def test_keys_that_hold_have_a_reason_for_other_values():
    for key in HOLDS:
        assert any(key.startswith(prefix) for prefix in REASONS), key


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_without_their_cluster_it_is_one_process(path):
    """As docs/configuration.md says: without ``cluster``, what places the engine, and parameters on the host."""
    values = yaml.safe_load(migrate_file(path).text)
    del values["cluster"]
    for name in ("engine", "vllm", "workers", "placement", "gpus_per_worker"):
        del values["rollout"][name]
    if "parameters" in values["model"].get("offload", ()):
        values["model"]["offload"].remove("parameters")
    config = parse_config(yaml.safe_dump(values), "new.yaml")
    assert (config.cluster.ranks, config.rollout.engine, config.rollout.workers) == (1, "local", 0)
