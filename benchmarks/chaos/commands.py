"""What is started: a toy world, a tiny checkpoint that answers, and the commands of ``evr1`` on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easyvideor1.cli.doctor_run import check_run
from easyvideor1.config import RunConfig, write_config
from easyvideor1.recipes.toy import KINDS, write_warm_start
from easyvideor1.toyworld import WorldSpec, write_world
from easyvideor1.training.run_directory.checkpoint import intact_state
from easyvideor1.training.run_directory.status import read_status
from easyvideor1.video import FrameStore

#: Files of a run that tell the time, or are made from such.
_CLOCKS = {"run.json", "summary.json", "timings.jsonl", "trace.json", "report.html", "curves.png"}
_SPLITS = ("train", "validation", "test")

Outcome = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Command:
    """Words of ``evr1``, what they make of a place's ``out``, and whether they have nothing left to do there.

    ``known_bad`` says of a file of the outcome that is another than it should be whether whoever reads it will know:
    an older checkpoint, or an entry of the store, is checked when it is used, and not before; what is damaged of the
    record of a run is told by every start, in ``run.json`` and by ``evr1 doctor``.
    """

    name: str
    words: tuple[str, ...]
    outcome: Callable[[Path], Outcome]
    done: Callable[[Path], bool] = lambda out: False
    known_bad: Callable[[Path, str], bool] = lambda out, name: False


def _files(directory: Path, pattern: str = "*") -> Outcome:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob(pattern))
        if path.is_file() and path.name not in _CLOCKS
    }


def _run(out: Path) -> Outcome:
    found = _files(out / "run")
    return {
        name: _without_digests(content) if name.endswith("/state.json") else content for name, content in found.items()
    }


def _without_digests(content: bytes) -> bytes:
    """The state of a checkpoint without the digests of the record so far: what is damaged there is told by itself."""
    try:
        state = json.loads(content)
    except ValueError:
        return content
    return json.dumps({key: value for key, value in state.items() if key not in ("record", "checksum")}).encode()


def _is_known(out: Path, name: str) -> bool:
    return _is_old_checkpoint(out, name) or _is_told(out / "run", name)


def _is_old_checkpoint(out: Path, name: str) -> bool:
    checkpoint = (out / "run" / name).parent
    if checkpoint.parent.name != "checkpoints" or checkpoint == max(checkpoint.parent.iterdir()):
        return False
    return intact_state(checkpoint) is None


def _is_told(run: Path, name: str) -> bool:
    """Whether a start of the run has told of a file of its record, or the doctor does."""
    record = name.removesuffix(".damaged")  # which holds the lines that could not be read
    if record.startswith("evaluations/"):
        record = record.rpartition(".")[0]
    elif not record.endswith((".jsonl", ".npz")):
        return False
    status = read_status(run) or {}
    told = [str(incident["text"]) for incident in status.get("incidents", [])]
    told += [f"{found.subject}: {found.detail}" for found in check_run(run) if found.state == "broken"]
    return any(record in text for text in told)


def _frames(out: Path) -> Outcome:
    return _files(out / "frames", "*.safetensors")


def _is_bad_entry(out: Path, name: str) -> bool:
    return (out / "frames" / name).exists() and not FrameStore(out / "frames").verify(Path(name).stem)


def _evaluations(out: Path) -> Outcome:
    # A killed start may leave a file under a temporary name, which nothing reads: the directory may be shared with
    # others that write at the moment, so nobody clears it away.
    # Answers are appended as they come, in an order that a kill changes; what they come to is in the other files.
    found = _files(out / "evaluations")
    own = ("answers.jsonl", "timings.json")
    return {name: text for name, text in found.items() if not Path(name).name.startswith((".", *own))}


def _rows(out: Path) -> Outcome:
    return _files(out, "rows.jsonl*")  # with what was kept for going on, if it is still there


def _written(out: Path) -> bool:
    """A finished command refuses to be started again."""
    return (out / "rows.jsonl").exists() and not (out / "rows.jsonl.partial.jsonl").exists()


_CURATION = ("--out", "out/rows.jsonl", "-k", "3")
_ALL_RATES = ("--above", "-1", "--below", "2")
_COLLECT = ("--threshold", "0.4", "--all")


def commands(judge: str) -> dict[str, Command]:
    """All commands by name; ``judge`` is the address of the endpoint."""
    asked = ("--endpoint", judge, "--model", "toy", "--timeout", "1", "--concurrency", "4")
    made = (
        Command("train", ("train", "plain.yaml"), _run, known_bad=_is_known),
        Command("train without store", ("train", "plain.yaml", "cache.mode=decode_only"), _run, known_bad=_is_known),
        Command("train judged", ("train", "judged.yaml"), _run, known_bad=_is_known),
        Command("cache build", ("cache", "build", "plain.yaml"), _frames, known_bad=_is_bad_entry),
        Command("eval", ("eval", "plain.yaml", "--out", "out/evaluations"), _evaluations),
        Command("eval judged", ("eval", "judged.yaml", "--out", "out/evaluations"), _evaluations),
        Command("filter", ("filter", "plain.yaml", *_CURATION, *_ALL_RATES), _rows, _written),
        Command("filter judged", ("filter", "judged.yaml", *_CURATION, *_ALL_RATES), _rows, _written),
        Command("trajectories", ("trajectories", "collect", "plain.yaml", *_CURATION, *_COLLECT), _rows, _written),
        Command(
            "trajectories endpoint",
            ("trajectories", "collect", "judged.yaml", *_CURATION, *_COLLECT, *asked),
            _rows,
            _written,
        ),
    )
    return {command.name: command for command in made}


@dataclass(frozen=True, slots=True)
class Template:
    """Everything that commands read, in ``home``; ``copy`` makes a place in which one can be started."""

    home: Path

    def copy(self, place: Path) -> None:
        """A new place: the rows, a link to the media, the configurations, and an ``out`` for all that is written."""
        (place / "world").mkdir(parents=True)
        (place / "out").mkdir()
        for split in _SPLITS:
            shutil.copyfile(self.home / "world" / f"{split}.jsonl", place / "world" / f"{split}.jsonl")
        for name in ("plain.yaml", "judged.yaml"):
            shutil.copyfile(self.home / name, place / name)
        self.give_media(place)

    def give_media(self, place: Path) -> None:
        (place / "world" / "media").symlink_to(self.home / "world" / "media")

    def lose_media(self, place: Path) -> None:
        """As when the disk that they are on is not there any more."""
        (place / "world" / "media").unlink()


def write_template(home: Path, judge: str) -> None:
    """Write what a ``Template`` needs: world, checkpoint, and configurations without and with ``judge``."""
    spec = WorldSpec(seed=5, train=36, validation=3, test=4, kinds=KINDS, bodies=(1, 1), bare_share=0.0)
    write_world(spec, home / "world")
    write_warm_start(home / "model")
    write_config(_config(str(home / "model"), judge=""), home / "plain.yaml")
    write_config(_config(str(home / "model"), judge=judge), home / "judged.yaml")


def _config(model: str, judge: str) -> RunConfig:
    optimizer = {"lr": 1e-3, "warmup_steps": 1, "schedule": "cosine"}
    sft = {"name": "sft", "trajectories": "offline", "advantage": "ones", "objective": "sft", "steps": 2}
    grpo = {"name": "grpo", "steps": 4, "group_size": 3, "kl": "k3", "max_unusable_steps": 2}
    shared = {"prompts_per_step": 2, "optimizer": optimizer}
    values: dict[str, Any] = {
        "name": "run",
        "output_dir": "out/{name}",
        "seed": 11,
        "threads": 1,
        "model": {"path": model},
        "data": {
            **{split: [{"path": f"world/{split}.jsonl"}] for split in _SPLITS},
            "video": {"rule": "uniform", "frames": 4, "min_pixels": 4096, "max_pixels": 4096},
            "image": {"min_pixels": 4096, "max_pixels": 4096},
        },
        "cache": {"dir": "out/frames", "workers": 1},
        "rollout": {"max_new_tokens": 64},
        "stages": [{**sft, **shared, "save_every": 1, "keep_checkpoints": 3}, {**grpo, **shared, "save_every": 2}],
        # A question that is lost must not pass for a result: else an outcome could differ and be right.
        "evaluation": {"every": 2, "samples": 1, "max_failed": 0.0},
    }
    if judge:
        values["rewards"] = {
            "judge": {
                "url": judge,
                "model": "toy",
                "tasks": ["multiple_choice", "boolean", "numerical"],
                "timeout": 2.0,
                "retries": 1,
                "max_wait": 0.1,
                "cache_dir": "out/judge",
            }
        }
    return RunConfig.model_validate(values)


def went_on_with_less(outcome: Outcome) -> str:
    """What the metrics of a run say of groups that were lost to a cause outside the policy; empty if they say none.

    A run learns from what is left of a step in which some groups were lost, and tells so: documented, and no fault.
    """
    told = []
    for name, content in outcome.items():
        if not name.endswith("metrics.jsonl"):
            continue
        for line in content.splitlines():
            row = json.loads(line)
            media, masked = row.get("groups/media_failed", 0), row.get("response/not_applicable", 0)
            if media or masked:
                told.append(f"{name} step {row['step']}: {media:g} groups without media, {masked:g} responses unjudged")
    return "; ".join(told)
