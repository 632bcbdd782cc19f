"""``evr1 init``: write a configuration for one's own model, data and devices, with a reason for every key."""

from __future__ import annotations

import math
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from easyvideor1.cli.init_rows import FoundRows
    from easyvideor1.cli.init_settings import Settings
    from easyvideor1.config import ModelConfig
    from easyvideor1.policy.sizing.curves import ModelSizes
    from easyvideor1.policy.sizing.devices import Device
    from easyvideor1.policy.sizing.prediction import Problem

#: Steps that a run has at least, so that it can learn something.
_STEPS = 100
#: Prompts of a step on a GPU, and on a processor.
_PROMPTS = {True: 8, False: 32}
#: Tokens of a micro-batch that are plenty.
_MICRO_BATCH = 32_768
#: A limit of prompts that refuses none.
_ANY_LENGTH = 1 << 22
#: Rounds of changes after which a model that does not fit is given up.
_ROUNDS = 8


def init(
    out: Annotated[Path, typer.Argument(metavar="[FILE]", help="File to write; must not exist.")] = Path("run.yaml"),
    model: Annotated[str, typer.Option(metavar="DIR", help="Checkpoint; its config.json is enough.")] = "",
    data: Annotated[str, typer.Option(metavar="ROWS", help="File of rows to train on.")] = "",
    test: Annotated[str, typer.Option(metavar="ROWS", help="Rows that are asked before and after.")] = "",
    validation: Annotated[str, typer.Option(metavar="ROWS", help="Rows that are asked between steps.")] = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the run; that of the file by default.")] = "",
    task: Annotated[str, typer.Option(metavar="TYPE", help="Task type of rows that name none.")] = "",
    media_root: Annotated[str, typer.Option(metavar="DIR", help="Where paths of media in the rows begin.")] = "",
    gpus: Annotated[int, typer.Option(min=0, help="GPUs to train on; 0 takes those of this machine.")] = 0,
    device: Annotated[str, typer.Option(metavar="NAME", help="Which GPU, such as H100, or cpu.")] = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory of one device, such as 80GiB.")] = "",
) -> None:
    """Write a configuration for your model, data and devices, with a line why for every key.

    Rows are looked at for their format and columns, config.json of the model for its family and size. What fits the
    devices is predicted as evr1 fit does. Options that are missing are asked for on a terminal. No file is overwritten.
    """
    from easyvideor1.config import RunConfig
    from easyvideor1.config.paths import looked_for
    from easyvideor1.families.checkpoint import checkpoint_fault
    from easyvideor1.files import write_text
    from easyvideor1.types import ConfigError

    if out.exists():
        raise ConfigError(f"{out} exists already; give another name or remove it first")
    model = _asked("--model", model, "Directory of the model (a Hugging Face checkpoint)")
    if not (Path(model) / "config.json").is_file():
        raise ConfigError(checkpoint_fault(model, looked_for(RunConfig(), model), key="--model"))
    data = _asked("--data", data, "File of rows to train on (.jsonl, .json, .parquet)")
    settings, what = propose(
        model=model,
        rows={"train": data, "validation": validation, "test": test},
        name=name or out.stem,
        task=task,
        media_root=media_root,
        gpus=gpus,
        device=device,
        memory=memory,
    )
    write_text(out, settings.text(what, str(out)))
    typer.echo(f"wrote {out}: {what}")
    typer.echo(f"next: evr1 train {quote(str(out))} --dry-run")


def _asked(option: str, given: str, question: str) -> str:
    """An option, or the answer to its question on a terminal.

    Raises:
        ConfigError: it is missing, and nobody can be asked.
    """
    from easyvideor1.types import ConfigError

    if given:
        return given
    if not sys.stdin.isatty():
        raise ConfigError(f"{option} is missing, and there is no terminal to ask for it; give it")
    return str(typer.prompt(question)).strip()


def propose(
    *,
    model: str,
    rows: dict[str, str],
    name: str,
    task: str,
    media_root: str,
    gpus: int,
    device: str,
    memory: str,
) -> tuple[Settings, str]:
    """The settings of a run, and what they are for in words.

    Args:
        model: directory of the checkpoint.
        rows: files of rows by split; ``train`` is not empty.
        name: of the run.
        task: see ``find_rows``.
        media_root: see ``find_rows``.
        gpus: how many; 0 takes those that are here, or one of those that ``device`` names.
        device: as ``evr1 fit`` takes it.
        memory: as ``evr1 fit`` takes it.

    Raises:
        ConfigError: the model is not of a known family, or nothing makes it fit.
        DataError: rows cannot be used.
    """
    from easyvideor1.cli.fit import target_device
    from easyvideor1.cli.init_rows import find_rows
    from easyvideor1.cli.init_settings import Settings
    from easyvideor1.config import RunConfig

    found = {split: find_rows(path, media_root=media_root, task=task) for split, path in rows.items() if path}
    target = target_device(RunConfig(), device, memory)
    count = _gpu_count(target, gpus, named=bool(device))
    settings = Settings()
    settings.set("name", name, "names the run directory, runs/NAME")
    settings.set("model.path", model, "the checkpoint that training starts from")
    if not target.on_cpu:
        why = "type of activations: half the memory of float32; weights that learn stay float32 either way"
        settings.set("model.dtype", "bfloat16", why)
        why = "layers are computed again in the backward pass: much less memory for a fifth to a third more time"
        settings.set("model.gradient_checkpointing", True, why)
    _set_data(settings, found)
    _set_length(settings, found["train"], target)
    if count > 1:
        settings.set("cluster.ranks", count, f"{count} GPUs share the weights, gradients and optimiser state (FSDP2)")
    words = _fit(settings, found["train"], target)
    return settings, f"{words}, {found['train'].usable} rows, {max(count, 1)} x {target.name}"


def _gpu_count(target: Device, gpus: int, *, named: bool) -> int:
    """How many ranks to ask for."""
    import torch

    from easyvideor1.types import ConfigError

    if target.on_cpu:
        if gpus:
            raise ConfigError(f"--gpus {gpus}: {target.name} is no GPU; name the GPUs to train on with --device NAME")
        return 1
    if gpus:
        return gpus
    return 1 if named else max(torch.cuda.device_count(), 1)


def _set_data(settings: Settings, found: dict[str, FoundRows]) -> None:
    """Sources, columns, and what becomes of bad rows.

    Raises:
        DataError: files of one format name their columns differently.
    """
    from easyvideor1.types import DataError

    uses = {
        "train": "rows to learn from",
        "validation": "rows that are asked between steps",
        "test": "rows that are asked before training and after each stage",
    }
    train = found["train"]
    for one in found.values():
        if one.format == train.format and one.columns != train.columns:
            raise DataError(
                f"{one.source['path']} names its columns otherwise ({_columns_words(one)}) than "
                f"{train.source['path']} ({_columns_words(train)}); a configuration has one set of names: rename the "
                "columns of one of the files"
            )
        if 2 * one.usable < one.rows:
            words = f"warning: only {one.usable} of {one.rows} rows of {one.source['path']} can be used; the first bad"
            typer.echo(f"{words} one: {one.first_fault}", err=True)
    bad = [one for one in found.values() if one.usable < one.rows]
    for split, one in found.items():
        for key, value in one.source.items():
            tasks = ", ".join(f"{task} {count}" for task, count in sorted(one.tasks.items()))
            told = f"{uses[split]}: {one.usable} of {one.rows} can be used ({tasks})"
            settings.set(f"data.{split}.0.{key}", value, told if key == "path" else one.why[key])
    for key, value in found["train"].columns.items():
        settings.set(f"data.{key}", value, found["train"].why[key])
    if bad:
        why = f"leave out rows that cannot be used, and count them; the first: {bad[0].first_fault}"
        settings.set("data.on_bad_row", "skip", why)
    if any(sample.modality == "video" for sample in found["train"].loaded.samples):
        settings.set("data.video.fps", 2.0, "frames per second of video; more of them see faster motion")
        settings.set(
            "data.video.max_frames", 64, "a longer video is sampled more sparsely, so that it has so many frames"
        )
        settings.set("data.video.max_pixels", 131_072, "pixels of a frame, such as 480 x 272; details need more")
    if "validation" in found:
        settings.set("evaluation.every", 25, "steps between evaluations on the validation rows")


def _columns_words(found: FoundRows) -> str:
    return ", ".join(f"data.{key}: {name}" for key, name in found.columns.items()) or "the default names"


def _set_length(settings: Settings, train: FoundRows, target: Device) -> None:
    """One stage of GRPO, as long as the rows ask for."""
    settings.set("rollout.max_new_tokens", 512, "length limit of a response, reasoning included; longer ones are cut")
    prompts = min(_PROMPTS[target.on_cpu], max(train.usable, 1))
    epochs = max(1, math.ceil(_STEPS * prompts / train.usable))
    steps = math.ceil(epochs * train.usable / prompts)
    stage = "stages.0"
    settings.set(f"{stage}.name", "grpo", "reinforcement learning with group-relative advantages (GRPO)")
    settings.set(f"{stage}.epochs", epochs, f"passes through the {train.usable} rows: {steps} steps")
    settings.set(f"{stage}.prompts_per_step", prompts, "prompts of a step; more make steps steadier and slower")
    settings.set(f"{stage}.group_size", 8, "responses that are compared with each other for every prompt")
    settings.set(f"{stage}.optimizer.lr", 1e-6, "the usual rate of reinforcement learning of all weights")
    every = max(min(50, steps // 4), 1)
    settings.set(f"{stage}.save_every", every, "steps between checkpoints, from which a run that was stopped goes on")


def _fit(settings: Settings, train: FoundRows, target: Device) -> str:
    """Change what does not fit, by the predictions of ``evr1 fit``; returns the model in words.

    Raises:
        ConfigError: nothing makes it fit.
    """
    from easyvideor1.cli.cache_plan import size_words
    from easyvideor1.policy.sizing.prediction import remedies
    from easyvideor1.types import ConfigError

    with tempfile.TemporaryDirectory(prefix="evr1-init.") as scratch:
        sizes_of = None
        for _ in range(_ROUNDS):
            problem, sizes_of = _problem(settings, train, target, Path(scratch), sizes_of)
            if problem.fits:
                _set_sizes(settings, problem)
                return _model_words(problem)
            peak, room = size_words(problem.peak.total), size_words(target.usable)
            found = remedies(problem, sizes_of)
            if not found:
                raise ConfigError(
                    f"{problem.peak.phase} needs {peak}, and {target.name} has {room}; nothing makes it fit: use a "
                    "smaller model, or more or larger devices (--gpus, --device, --memory)"
                )
            for change in found[0].changes:
                _apply(settings, change, f"else the {problem.peak.phase} needs {peak} of {room} (evr1 fit)")
    raise ConfigError(f"no configuration was found that fits {target.name}; look for one with evr1 fit")


def _problem(
    settings: Settings,
    train: FoundRows,
    target: Device,
    scratch: Path,
    sizes_of: Callable[[ModelConfig], ModelSizes] | None,
) -> tuple[Problem, Callable[[ModelConfig], ModelSizes]]:
    """What ``evr1 fit`` says of the settings, from some of the rows; nothing is written beside them."""
    from easyvideor1.cli.fit import stage_problems
    from easyvideor1.cli.init_rows import some_of
    from easyvideor1.cli.model_shape import open_shape
    from easyvideor1.components import Components
    from easyvideor1.config import located, parse_config
    from easyvideor1.config.writing import dump_values
    from easyvideor1.data import prompt_text

    values = settings.nested()
    values["cache"] = {"dir": str(scratch / "frames")}
    values["data"] |= {"max_prompt_tokens": _ANY_LENGTH, "on_bad_row": "skip"}
    config = located(parse_config(dump_values(values), "evr1 init"))
    samples = some_of(train.loaded.samples)
    corpus = [prompt_text(sample, config.prompts, config.rewards) for sample in samples]
    shape = open_shape(config, scratch, corpus)
    with Components.open(config, shape.stand_in) as components:
        checked = components.check([replace(train.loaded, samples=samples, bad=[])])
        problems, sizes_of = stage_problems(components, components.config.stages, checked, target, sizes_of)
    if checked[0].bad and "data.on_bad_row" not in settings.values:
        why = f"{len(checked[0].bad)} of {len(samples)} rows that were looked at cannot be used: {checked[0].bad[0]}"
        settings.set("data.on_bad_row", "skip", f"leave out such rows and count them; {why}")
    return problems[0], sizes_of


def _apply(settings: Settings, change: str, why: str) -> None:
    """Take over a remedy of ``evr1 fit``, which may set several keys."""
    import yaml

    for setting in re.split(r"\s+(?=[\w.]+=)", change):
        key, _, text = setting.partition("=")
        settings.set(key, yaml.safe_load(text), why)
        if key == "model.lora":
            settings.set("stages.0.optimizer.lr", 1e-5, "adapters learn with ten times the rate of all weights")


def _set_sizes(settings: Settings, problem: Problem) -> None:
    """Bounds that follow from the prompts and from the memory that is left."""
    from easyvideor1.policy.sizing.prediction import best_micro_batch

    longest = max(len(one.prompt) for one in problem.asked)
    limit = max(1024 * math.ceil(1.25 * longest / 1024), 2048)
    why = f"rows with longer prompts are refused; the longest of those looked at has {longest}"
    settings.set("data.max_prompt_tokens", limit, why)
    largest = best_micro_batch(problem)
    if largest is not None and "stages.0.micro_batch_tokens" not in settings.values:
        why = f"tokens that are computed together; up to {largest} would fit (evr1 fit)"
        settings.set("stages.0.micro_batch_tokens", min(largest, _MICRO_BATCH), why)


def _model_words(problem: Problem) -> str:
    count = problem.sizes.all_values
    size = f"{count / 1e9:.1f} billion" if count >= 1e9 else f"{count / 1e6:.1f} million"
    return f"{Path(problem.config.model.path).name} with {size} parameters"
