"""Stages that do not go with the rest of the run do not load."""

import ast
from pathlib import Path

import pytest

import easyvideor1.rewards
from easyvideor1.config import RunConfig, parse_config
from easyvideor1.config.rewards import RULE_PARTS
from easyvideor1.types import ConfigError


def config(stage, **sections):
    return RunConfig.model_validate({"stages": [{"name": "rl", **stage}], **sections})


PARTS = {"parts": [{"name": "short", "reward": "brevity"}]}


def gdpo(**weights):
    return {"advantage": {"name": "gdpo", "part_weights": weights}}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (
            "overlong: {cache: 513}",
            r"stages\.rl\.overlong\.cache \(513\) is larger than rollout\.max_new_tokens \(512\)",
        ),
        (
            "selection: {filter_key: accurcy, filter_low: 0.1}",
            r"stages\.rl\.selection\.filter_key: no score has a part 'accurcy': did you mean acc",
        ),
        (
            "advantage: {name: gdpo, part_weights: {total: 1.0}}",
            r"stages\.rl\.advantage\.part_weights: no score has a part 'total'",
        ),
        (
            "advantage: {name: gdpo, part_weights: {brevity: 1.0}}",
            "set one of accuracy, format, or add it to rewards.parts",
        ),
    ],
)
def test_contradictions(stage, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(f"stages: [{{name: rl, {stage}}}]", "f")


def test_parts_that_a_score_may_have():
    assert config({"selection": {"filter_key": "total", "filter_low": 0.1}})
    assert config({"overlong": {"cache": 512}})
    assert config({"selection": {"filter_key": "short", "filter_high": 0.9}}, rewards=PARTS)
    assert config(gdpo(accuracy=1.0, short=0.1), rewards=PARTS)
    assert config(gdpo(temporal_iou=1.0))
    # What a reward of one's own puts into its scores is not known before it is called.
    assert config(gdpo(mine=1.0), rewards={"custom": {"*": "my_module:mine"}})


def written_parts():
    """Names of parts in the source of the rules, where they are written down as text."""
    found = set()
    for path in Path(easyvideor1.rewards.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            tables = []
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Verdict":
                tables = node.args[1:2]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "parts":
                tables = [node.value]
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("parts['"):
                found.add(ast.literal_eval(node.targets[0].slice))
            for table in tables:
                tables += [table.body, table.orelse] if isinstance(table, ast.IfExp) else []
                keys = table.keys if isinstance(table, ast.Dict) else []
                found |= {key.value for key in keys if isinstance(key, ast.Constant)}
    return found


def test_the_parts_of_the_rules_are_known():
    """Those that the source does not spell out where they are set are named here."""
    others = {"positive_points", "negative_points", "rouge1", "rouge2", "rougeL", "judge_fallback", "rule_accuracy"}
    assert written_parts() | others == RULE_PARTS


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"cluster": {"ranks": 4, "shard_size": 3}}, r"shard_size \(3\) does not divide ranks \(4\); set a divisor"),
        ({"cluster": {"ranks": 2, "shard_size": 1}}, "nothing would be spread; set 2 or more, or 0"),
        (
            {"cluster": {"ranks": 4, "sequence_parallel": 3}},
            r"sequence_parallel \(3\) does not divide ranks \(4\); set",
        ),
        (
            {"cluster": {"ranks": 2, "sequence_parallel": 2}, "model": {"attention": "eager"}},
            "set model.attention to sdpa, or cluster.sequence_parallel to 1",
        ),
        ({"cluster": {"ranks": 2}, "rollout": {"engine": "vllm"}}, "vllm in the process .* set rollout.workers=1"),
        ({"cluster": {"ranks": 2}, "model": {"device": "cuda:1"}}, "set it to auto, cpu or cuda"),
        (
            {"cluster": {"ranks": 4, "nodes": 2, "gpus_per_node": 4}},
            r"ranks \(4\) is not nodes \(2\) times gpus_per_node \(4\); leave out ranks",
        ),
        ({"cluster": {"ranks": 3, "nodes": 2}}, r"nodes \(2\) does not divide ranks \(3\)"),
        ({"cluster": {"placement": "ray"}}, "a single rank is the process of the run"),
        (
            {
                "cluster": {"placement": "ray", "ranks": 2},
                "rollout": {"placement": "ray", "workers": 2, "gpus_per_worker": 0.5},
            },
            "2 workers on 2 ranks would take 0.5 of each GPU, and Ray may place two ranks on one GPU",
        ),
    ],
)
def test_ranks_need_a_device_each_and_a_group_of_their_own(sections, message) -> None:
    with pytest.raises(ValueError, match=message):
        config({}, **sections)
    assert config({}, cluster={"ranks": 4, "shard_size": 2}, rollout={"engine": "vllm", "workers": 1})


def test_ranks_follow_from_machines_and_gpus() -> None:
    assert config({}, cluster={"nodes": 2, "gpus_per_node": 4}).cluster.ranks == 8
    assert config({}, cluster={"gpus_per_node": "4"}).cluster.ranks == 4  # as a command line gives it
    assert config({}, cluster={"nodes": 3}).cluster.ranks == 3
    assert config({}).cluster.ranks == 1


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"offload": ["activations"]}}, "no layer is checkpointed; set gradient_checkpointing=true"),
        ({"model": {"offload": ["parameters"]}}, "offloaded where ranks share them; set cluster.ranks=2 or more"),
        (
            {"cluster": {"ranks": 2}, "model": {"vision_chunk": 512}},
            r"vision and merger can learn.* set model.vision_chunk=0, or model.freeze=\[vision,merger\]",
        ),
        (
            {"cluster": {"ranks": 2}, "model": {"vision_chunk": 512, "freeze": ["vision"]}},
            r"tower merger can learn.* model.freeze=\[vision,merger\]",
        ),
        (
            {"cluster": {"ranks": 2}, "model": {"vision_chunk": 512, "lora": {"targets": ["vision", "language"]}}},
            "tower vision can learn.* leave vision and merger out of model.lora.targets",
        ),
    ],
)
def test_savings_need_what_they_act_on(sections, message) -> None:
    with pytest.raises(ValueError, match=message):
        config({}, **sections)
    whole = {"offload": ["parameters"], "vision_chunk": 512, "freeze": ["vision", "merger"]}
    assert config({}, cluster={"ranks": 2}, model=whole)
    assert config({}, cluster={"ranks": 2}, model={"vision_chunk": 512, "lora": {"targets": ["language"]}})
    assert config({}, model={"vision_chunk": 512})


def on_gpus(workers, share, **vllm):
    rollout = {"engine": "vllm", "placement": "ray", "workers": workers, "gpus_per_worker": share, "vllm": vllm}
    return {"cluster": {"placement": "ray", "gpus_per_node": 8}, "rollout": rollout}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (on_gpus(16, 0.2), r"2 engines on each GPU.* takes 0\.9 .*null.* below 0\.5, rollout\.workers to 8, or"),
        (on_gpus(16, 0.2, gpu_memory_utilization=0.5), "takes 0.5 of the memory: set it below 0.5"),
        (on_gpus(8, 0.4, gpu_memory_utilization=1.0), "an engine on each GPU"),
        (
            on_gpus(4, 1 / 3, gpu_memory_utilization=0.4) | {"cluster": {}},
            "3 engines on each GPU.* below 0.33, or rollout.gpus_per_worker to 1",
        ),
        ({"rollout": {"vllm": {"enforce_eager": True}}}, "enforce_eager would have no effect.*engine is local; set"),
        (
            {"rollout": {"engine": "vllm", "vllm": {"max_model_len": 64}}, "data": {"max_prompt_tokens": 9000}},
            r"max_model_len \(64\) is less than .* raise it to 9512",
        ),
    ],
)
def test_vllm_is_given_what_it_can_use(sections, message) -> None:
    with pytest.raises(ValueError, match=message):
        config({}, **sections)


def test_settings_of_vllm_that_fit() -> None:
    for sections in (
        on_gpus(8, 0.4),
        on_gpus(16, 0.2, gpu_memory_utilization=0.45),
        on_gpus(8, 1.0, gpu_memory_utilization=1.0),
        {"rollout": {"engine": "vllm", "vllm": {"max_model_len": 9512}}, "data": {"max_prompt_tokens": 9000}},
        {"rollout": {"engine": "my_module:Engine", "vllm": {"enforce_eager": True}}},
    ):
        assert config({}, **sections)
