"""evr1 fit, on a real checkpoint directory and real rows."""

import json

import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner

from easyvideor1.cli.app import app

pytestmark = pytest.mark.model
RUN = CliRunner(env={"COLUMNS": "250"})


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from easyvideor1.families.tiny import write_tiny_checkpoint

    root = tmp_path_factory.mktemp("fit")
    done = RUN.invoke(app, ["toyworld", str(root / "world"), "train=6", "validation=2", "test=2", "image_share=0.5"])
    assert done.exit_code == 0, done.output
    write_tiny_checkpoint(root / "model", ["a question about a red square"], width=64, layers=2, vision_layers=1)
    stored = load_file(root / "model" / "model.safetensors")
    (root / "largest").write_text(str(max(tensor.numel() for tensor in stored.values())))
    # Without its weights: the command reads shapes alone.
    (root / "model" / "model.safetensors").unlink()
    path = root / "run.yaml"
    stage = {"name": "grpo", "prompts_per_step": 4, "group_size": 4}
    values = {
        "model": {"path": str(root / "model")},
        "cache": {"dir": str(root / "frames")},
        "data": {"train": [{"path": str(root / "world" / "train.jsonl")}]},
        "rollout": {"max_new_tokens": 64},
        "stages": [stage],
    }
    path.write_text(json.dumps(values))
    return path


def fit(config, *words):
    return RUN.invoke(app, ["fit", str(config), "--device", "H100", *words])


def test_a_run_that_fits_is_described(config):
    done = fit(config, "--json")
    assert done.exit_code == 0, done.output
    (stage,) = json.loads(done.stdout.splitlines()[-1])["stages"]
    assert stage["fits"]
    assert sum(count for _, _, count in stage["histogram"]) == 6
    assert stage["cache_bytes"] > 0
    update = stage["peaks"]["update"]
    assert update["total"] == sum(update["parts"].values())
    assert update["parts"]["optimiser state"] == 2 * update["parts"]["weights"]
    assert stage["flops"]["language"] > stage["flops"]["vision"] > 0
    assert not (config.parent / "frames" / "raw").exists()


def test_ranks_and_offload_take_less_of_the_device(config):
    def stage(*words):
        done = fit(config, "--json", *words)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.splitlines()[-1])["stages"][0]

    one, two = stage(), stage("cluster.ranks=2")
    offloaded = stage("cluster.ranks=2", "model.gradient_checkpointing=true", "model.offload=[activations,optimizer]")
    parts = [each["peaks"]["update"]["parts"] for each in (one, two, offloaded)]
    assert parts[1]["weights"] < parts[0]["weights"]
    assert "optimiser state" not in parts[2]
    assert offloaded["host"]["offloaded optimiser state"] == 2 * parts[1]["optimiser state"], "of both ranks"
    assert offloaded["host"]["offloaded activations"] > 0
    assert (
        "engine's weights" in two["peaks"]["generation"]["parts"]
        and two["seconds"]["trainer"] < one["seconds"]["trainer"]
    )


def test_a_run_that_does_not_fit_is_refused_and_its_remedies_fit(config):
    peak = json.loads(fit(config, "--json").stdout.splitlines()[-1])["stages"][0]["peaks"]["update"]["total"]
    size = str(int(peak / 0.92 * 0.9))
    refused = fit(config, "--memory", size)
    assert refused.exit_code == 1
    assert "it does not fit: update needs" in refused.stdout
    remedies = [line.strip() for line in refused.stdout.splitlines() if line.strip().startswith("set ")]
    assert remedies
    for line in remedies:
        changes = line.removeprefix("set ").partition(": the peak")[0]
        if "max_frames" not in changes and "lora" not in changes:
            mended = fit(config, *changes.split(), "--memory", size)
            assert mended.exit_code == 0, f"{changes}\n{mended.stdout}"


def test_a_device_without_memory_is_refused(config):
    done = fit(config, "--memory", "0")
    assert done.exit_code == 2
    assert "a device needs memory" in done.stderr


def test_ranks_that_compute_together_are_not_predicted(config):
    refused = fit(config, "cluster.ranks=2", "cluster.sequence_parallel=2")
    assert refused.exit_code != 0 and "add cluster.sequence_parallel=1 to this command" in refused.output
    assert fit(config, "cluster.ranks=2", "cluster.sequence_parallel=1", "--json").exit_code == 0


SHARED = (
    "cluster.placement=ray",
    "cluster.gpus_per_node=2",
    "rollout.placement=ray",
    "rollout.workers=2",
    "rollout.gpus_per_worker=0.4",
)


def predicted(config, *words):
    done = fit(config, "--json", *words)
    return done.exit_code, json.loads(done.stdout.splitlines()[-1])["stages"][0]


def test_an_engine_on_the_gpu_of_a_rank_is_counted(config):
    """vLLM takes its share, whatever it needs; with GPUs apart it takes nothing."""
    vllm = (*SHARED, "rollout.engine=vllm")
    code, found = predicted(config, *vllm, "rollout.vllm.gpu_memory_utilization=0.6")
    assert code == 0 and found["peaks"]["generation"]["parts"]["engines"] == int(0.6 * 80 * 2**30)
    assert found["batch_tokens"] is None and found["gpu_memory_utilization"] == 0.9
    code, found = predicted(config, *vllm, "rollout.vllm.gpu_memory_utilization=0.95")
    assert code == 1 and not found["fits"]
    assert ["rollout.vllm.gpu_memory_utilization=0.9"] in [each["set"] for each in found["remedies"]]
    _, found = predicted(config, *vllm, "rollout.gpus_per_worker=1")
    assert set(found["peaks"]["generation"]["parts"]) == {"weights", "optimiser state"}


def test_engines_that_share_a_gpu_take_as_much_each(config):
    _, one = predicted(config, *SHARED)
    _, two = predicted(config, *SHARED, "rollout.workers=4", "rollout.gpus_per_worker=0.2")
    for name in ("engine's weights", "KV cache"):
        assert two["peaks"]["generation"]["parts"][name] == 2 * one["peaks"]["generation"]["parts"][name]


def test_an_engine_that_works_ahead_is_there_during_the_update(config):
    words = (*SHARED, "rollout.engine=vllm", "rollout.vllm.gpu_memory_utilization=0.5")
    (_, waits), (_, ahead) = (predicted(config, *words, f"rollout.max_staleness={steps}") for steps in (0, 1))
    more = ahead["peaks"]["update"]["total"] - waits["peaks"]["update"]["total"]
    assert more == int(0.5 * 80 * 2**30)


def test_ranks_read_their_rows_and_copy_their_part(config):
    _, two = predicted(config, "cluster.ranks=2", "stages.0.async_save=true")
    _, one = predicted(config, "stages.0.async_save=true")
    weights = {ranks: found["peaks"]["update"]["parts"]["weights"] for ranks, found in ((1, one), (2, two))}
    assert two["host"]["a checkpoint, opened"] == 2 * (weights[2] + 4 * int((config.parent / "largest").read_text()))
    copied = "a checkpoint, copied to be written"
    assert one["host"][copied] == 3 * weights[1]
    assert two["host"][copied] == pytest.approx(3 * weights[1], rel=0.001), "no number twice"
