"""``evr1 trajectories``: good responses of any model, kept in rows for supervised and hybrid stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument

if TYPE_CHECKING:
    from easyvideor1.config import JudgeConfig

app = typer.Typer(no_args_is_help=True, help="Offline trajectories.")


@app.callback()
def _root() -> None:
    pass


@app.command("collect")
def collect(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    out: Annotated[Path, typer.Option(help="File of rows to write: .jsonl, .json or .parquet.")] = Path("rows.jsonl"),
    k: Annotated[int, typer.Option("-k", "--responses", min=1, help="Responses per row.")] = 4,
    threshold: Annotated[float, typer.Option(help="Keep responses whose total is above this.")] = 0.9,
    keep: Annotated[int, typer.Option(min=1, help="Responses that a row keeps, the best first.")] = 1,
    all_rows: Annotated[bool, typer.Option("--all", help="Write rows without a good response, too.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint or run; model.path if left out.")] = None,
    endpoint: Annotated[str, typer.Option(help="Address of an OpenAI-compatible endpoint, asked instead.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "",
    api_key_env: Annotated[str, typer.Option(help="Environment variable that holds the endpoint's key.")] = "",
    concurrency: Annotated[int, typer.Option(min=1, help="Requests to the endpoint at the same time.")] = 8,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that one request may take.")] = 120.0,
) -> None:
    """Answer every row of data.train several times and write rows with the responses that score above a threshold.

    They take the place of the trajectories that a row has. Log-probs of a checkpoint's responses are kept where the
    text gives the same tokens again. Responses that were cut at the limit are never kept; those that the endpoint
    refuses, or that fail, are counted and never scored. Started again after a kill, it goes on where it was.
    """
    from dataclasses import replace

    from easyvideor1.cli.survey import open_survey
    from easyvideor1.types import ConfigError, OfflineTrajectory

    if endpoint and checkpoint is not None:
        raise ConfigError("--checkpoint and --endpoint name two models to ask; give one of them")
    for name, value in (("--model", model), ("--api-key-env", api_key_env)):
        if value and not endpoint:
            raise ConfigError(f"{name} {value} is of an endpoint; add --endpoint ADDRESS, or leave it out")
    options = {"url": endpoint, "model": model, "api_key_env": api_key_env}
    asked = _endpoint(config, overrides or (), options, concurrency, timeout) if endpoint else None
    rows, kept = [], 0
    with open_survey(config, overrides or (), out, k, checkpoint, asked) as survey:
        for sample, responses in survey.found.answered:
            good = [r for r in responses if r.applicable and r.complete and r.total > threshold and r.text.strip()]
            good = list({response.text: response for response in sorted(good, key=lambda r: -r.total)}.values())[:keep]
            kept += len(good)
            if good or all_rows:
                offline = tuple(OfflineTrajectory(response.text, response.logprobs) for response in good)
                rows.append(replace(sample, offline=offline))
        survey.finish(out, rows)
        poor = len(survey.found.answered) - len(rows)
        survey.tell(out, f"{len(rows)} rows with {kept} trajectories", (f"{poor} without a good response",))


def _endpoint(
    config: str, overrides: Sequence[str], options: dict[str, str], concurrency: int, timeout: float
) -> JudgeConfig:
    """The endpoint of some options, asked as the rollout of a configuration draws.

    Raises:
        ConfigError: an option is missing or cannot be.
    """
    from pydantic import ValidationError

    from easyvideor1.config import JudgeConfig, load_config
    from easyvideor1.types import ConfigError

    rollout = load_config(config, overrides).rollout
    # top_k is no field of OpenAI's own, but one of servers such as vLLM and SGLang; sent only where it is wanted.
    drawn = {"top_p": rollout.top_p} | ({"top_k": rollout.top_k} if rollout.top_k else {})
    try:
        return JudgeConfig(
            **options,
            concurrency=concurrency,
            timeout=timeout,
            temperature=rollout.temperature,
            reply_tokens=rollout.max_new_tokens,
            extra_body=drawn,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        what = f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--endpoint {options['url']} --model {options['model']!r}: {what}") from error
