"""``evr1 generate``: answer one question about a video."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import GenerationOverrides

if TYPE_CHECKING:
    from easyvideor1.types import Trajectory

CheckpointArgument = Annotated[
    Path, typer.Argument(metavar="CHECKPOINT", help="Checkpoint, or a run directory for its last checkpoint.")
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        help="YAML file or recipe, for budgets and prompts; by default that of a run directory, else defaults.",
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", help="local, vllm or module:attr; rollout.engine of the configuration by default."),
]


def generate(
    checkpoint: CheckpointArgument,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question; - reads it from stdin.")],
    overrides: GenerationOverrides = None,
    video: Annotated[list[Path] | None, typer.Option(help="Video file. Repeatable.")] = None,
    image: Annotated[list[Path] | None, typer.Option(help="Image file. Repeatable.")] = None,
    start: Annotated[float | None, typer.Option(min=0, help="Start of the clip, in seconds.")] = None,
    end: Annotated[float | None, typer.Option(min=0, help="End of the clip, in seconds.")] = None,
    fps: Annotated[float | None, typer.Option(min=0.001, help="Frames per second that the model sees.")] = None,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Most frames of a video.")] = None,
    problem_type: Annotated[
        str, typer.Option(help="Word the question as in training, such as multiple_choice; as it is by default.")
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option(help="An option of a multiple-choice question. Repeatable; with --problem-type.")
    ] = None,
    config: ConfigOption = None,
    engine: EngineOption = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Number of answers.")] = 1,
    greedy: Annotated[bool, typer.Option("--greedy", help="Take the likeliest token each time.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of the answers; that of the configuration by default.")
    ] = None,
    stream: Annotated[bool, typer.Option(help="Print the answer as it grows.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    show_frames: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the frames that the model sees, as PNG files.")
    ] = None,
) -> None:
    """Answer one question about a video, about pictures, or in plain text."""
    import sys
    import tempfile
    import time
    from contextlib import closing
    from dataclasses import replace

    import torch

    from easyvideor1.cli.export import checkpoint_to_use
    from easyvideor1.engines.engine import Request
    from easyvideor1.serving.components import AnsweringComponents, answering_config
    from easyvideor1.serving.question import Question, answer, question_prompt, save_frames, seen_media
    from easyvideor1.types import ConfigError

    text = sys.stdin.read().strip() if question == "-" else question
    if not text:
        raise ConfigError("the question is empty; write it behind the checkpoint, or - to read it from stdin")
    if option and not problem_type:
        raise ConfigError("--option goes with --problem-type multiple_choice, whose template lists the options")
    began = time.monotonic()
    files = (tuple(video or ()), tuple(image or ()))
    asked = Question(text, *files, start, end, fps, max_frames, problem_type, tuple(option or ()))
    with tempfile.TemporaryDirectory(prefix="evr1-generate-") as scratch:
        settings = answering_config(checkpoint, config, overrides or (), Path(scratch), engine=engine)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        with AnsweringComponents.of(settings, checkpoint_to_use(checkpoint, settings), Path(scratch)) as components:
            prompt = question_prompt(asked, components)
            if show_frames is not None:
                typer.echo(f"wrote {save_frames(prompt, components, show_frames)} frames to {show_frames}", err=True)
            sampling = replace(components.sampling(), greedy=greedy)
            request = Request("question", prompt, n, sampling, settings.seed if seed is None else seed)
            live = stream and n == 1 and not as_json
            with closing(components.open_engine()) as opened:
                found = answer(opened, request, components, _print_piece if live else None)
    if as_json:
        told = {
            "question": prompt.text,
            "responses": [{"text": each.text, "tokens": each.response_tokens, "finish": each.finish} for each in found],
            "prompt_tokens": len(prompt),
            "media": seen_media(prompt),
            "seconds": round(time.monotonic() - began, 3),
        }
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
        return
    _print_whole(found, n, live, sampling.max_new_tokens)


def _print_whole(found: Sequence[Trajectory], n: int, shown: bool, limit: int) -> None:
    """Print the answers, unless the only one was shown as it grew."""
    if shown:
        typer.echo()
    else:
        for number, each in enumerate(found, 1):
            typer.echo(f"[{number}] {each.text}" if n > 1 else each.text)
    if any(each.finish == "length" for each in found):
        typer.echo(f"(cut at rollout.max_new_tokens = {limit})", err=True)


def _print_piece(piece: str) -> None:
    if piece:
        typer.echo(piece, nl=False)
