"""evr1 export of a model of 150 MB: its memory, and what is left of an export that is killed, refused or doubled."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import LoraConfig, ModelConfig, OptimizerConfig, StageConfig
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.policy.policy import Policy
from easyvideor1.training.run_directory.checkpoint import save_checkpoint

pytestmark = pytest.mark.model

RUN = CliRunner()
LAYERS = 16

#: Saves a policy with adapters and exports it; prints by how many bytes either raised the memory of the process.
MEASURED = """
import json, sys
from pathlib import Path
from typer.testing import CliRunner
from easyvideor1.cli.app import app
from easyvideor1.config import LoraConfig, ModelConfig, StageConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.training.run_directory.checkpoint import save_checkpoint

def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(kind))

def raised(work):
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = memory("VmRSS")
    work()
    return memory("VmHWM") - before

def export(checkpoint, out):
    done = CliRunner().invoke(app, ["export", str(checkpoint), out])
    assert done.exit_code == 0, (done.stderr, done.exception)

small, large = sys.argv[1:]
found = {}
for name, path in (("small", small), ("large", large)):
    policy = Policy.open(ModelConfig(path=path, device="cpu", lora=LoraConfig(rank=4)))
    policy.begin(StageConfig(name="stage"))
    for parameter in policy.model.parameters():
        float(parameter.sum())  # it lies in a mapped file, of which nothing was read so far
    def save():
        global saved
        saved = save_checkpoint(policy.save, Path(name), 1, {}, 1)
    found["save"] = raised(save)
    del policy
    found["export"] = raised(lambda: export(saved, f"{name}-out"))
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("export") / "base"
    return write_tiny_checkpoint(out, ["a b"], width=512, layers=LAYERS, vision_layers=1, vocabulary=300)


@pytest.fixture(scope="module")
def checkpoint(base: Path) -> Path:
    """A checkpoint of a run with adapters, whose weights are those of the base and theirs."""
    pytest.importorskip("peft")
    policy = Policy.open(ModelConfig(path=str(base), device="cpu", lora=LoraConfig(rank=4)))
    policy.begin(StageConfig(name="stage", optimizer=OptimizerConfig()))
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.1)
    return save_checkpoint(policy.save, base.parent / "stage", 1, {}, 1)


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "easyvideor1.cli", "export", *map(str, words)]


def left_beside(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir() if path != out)


def test_memory_is_that_of_a_tensor_not_of_the_model(base: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The largest tensor, of the merger, has 17 MB. A merged copy of the model would add all of it."""
    pytest.importorskip("peft")
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("needs a kernel that measures the peak memory of a process")
    size = (base / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tiny_checkpoint, base],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    raised = json.loads(done.stdout.splitlines()[-1])
    assert size > 140e6
    assert max(raised.values()) < size / 4, raised


def test_shards_and_types_by_options(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = RUN.invoke(app, ["export", str(checkpoint), str(out), "--max-shard-size", "20M", "--dtype", "bfloat16"])
    assert done.exit_code == 0, done.stderr
    whole = load_file(checkpoint / "model.safetensors")
    size = sum(tensor.nbytes for tensor in whole.values()) // 2
    assert f"export: {-(-size // 10**6)}/{-(-size // 10**6)}" in done.stderr and "MB/s" in done.stderr
    files = sorted(out.glob("model-*-of-*.safetensors"))
    assert len(files) >= -(-size // (20 << 20)) and not (out / "model.safetensors").exists()
    assert all(file.stat().st_size < (20 << 20) + 10_000 for file in files)
    found = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in whole.items())
    done = RUN.invoke(app, ["export", str(checkpoint), str(tmp_path / "adapter"), "--adapter"])
    assert done.exit_code == 0, done.stderr
    described = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (described["r"], described["lora_alpha"]) == (4, 32.0)
    assert left_beside(out) == ["adapter"]


def test_a_killed_export_leaves_no_directory_and_is_done_again(checkpoint: Path, tmp_path: Path) -> None:
    """Meanwhile nobody else may write there."""
    out = tmp_path / "out"
    first = subprocess.Popen(command(checkpoint, out, "--max-shard-size", "1M"), stderr=subprocess.PIPE)
    limit = time.monotonic() + 120
    while not list(tmp_path.glob(".out.*.tmp/model-*")):
        assert first.poll() is None and time.monotonic() < limit
        time.sleep(0.002)
    first.send_signal(signal.SIGSTOP)
    done = RUN.invoke(app, ["export", str(checkpoint), str(out)])
    assert done.exit_code == 2 and "another process is exporting to" in done.stderr
    first.kill()
    first.communicate()
    assert not out.exists() and len(left_beside(out)) == 2  # the files so far, and the lock, which nobody holds
    done = RUN.invoke(app, ["export", str(checkpoint), str(out)])
    assert done.exit_code == 0, done.stderr
    assert load_file(out / "model.safetensors").keys() == load_file(checkpoint / "model.safetensors").keys()
    assert not left_beside(out)


def test_a_refused_write_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    """The kernel refuses in the middle of a file, as a full disk does: the limit of this process's files."""
    out = tmp_path / "out"
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, limits[1]))
        done = RUN.invoke(app, ["export", str(checkpoint), str(out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert done.exit_code != 0 and not list(tmp_path.iterdir())


def test_a_disk_without_room_is_told_before_anything_is_written(checkpoint: Path, tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare(1) for a mount of its own")
    (tmp_path / "disk").mkdir()
    script = 'mount -t tmpfs -o size=60m tmpfs disk && { "$@"; echo status $?; ls -A disk; }'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", *command(checkpoint, "disk/out")]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    if "mount" in done.stderr and "permission" in done.stderr.lower():
        pytest.skip("needs the right to mount (root, or a user namespace)")
    assert done.stdout == "status 2\n", done.stdout + done.stderr
    assert "the disk has 60.0 MiB free; free some space" in done.stderr
