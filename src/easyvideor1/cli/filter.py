"""``evr1 filter``: keep the rows that a checkpoint neither always nor never gets right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from easyvideor1.cli.config import ConfigArgument, OverridesArgument


def filter_rows(
    config: ConfigArgument,
    overrides: OverridesArgument = None,
    out: Annotated[Path, typer.Option(help="File of rows to write: .jsonl, .json or .parquet.")] = Path("rows.jsonl"),
    k: Annotated[int, typer.Option("-k", "--responses", min=1, help="Responses per row.")] = 8,
    above: Annotated[float, typer.Option(help="Keep rows with a higher pass rate than this.")] = 0.0,
    below: Annotated[float, typer.Option(help="Keep rows with a lower pass rate than this.")] = 1.0,
    passing: Annotated[float, typer.Option(help="Accuracy from which a response passes.")] = 0.5,
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint or run; model.path if left out.")] = None,
) -> None:
    """Answer every row of data.train several times and write those with a pass rate between the bounds.

    Rows get the columns pass_rate and pass_responses. Started again after a kill, it goes on where it was. A row none
    of whose responses could be judged, or whose media cannot be read, is left out and counted.
    """
    from dataclasses import replace

    from easyvideor1.cli.survey import open_survey
    from easyvideor1.types import ConfigError

    if not above < below:
        raise ConfigError(f"no pass rate lies between --above {above:g} and --below {below:g}")
    kept, low, high, unjudged = [], 0, 0, 0
    with open_survey(config, overrides or (), out, k, checkpoint) as survey:
        for sample, responses in survey.found.answered:
            judged = [response.accuracy >= passing for response in responses if response.applicable]
            if not judged:
                unjudged += 1
                continue
            rate = sum(judged) / len(judged)
            low += rate <= above
            high += rate >= below
            if above < rate < below:
                extra = {**sample.extra, "pass_rate": rate, "pass_responses": len(judged)}
                kept.append(replace(sample, extra=extra))
        survey.finish(out, kept)
        survey.tell(
            out,
            f"{len(kept)} rows",
            (
                f"{low} with a pass rate of at most {above:g}",
                f"{high} of at least {below:g}",
                f"{unjudged} that could not be judged",
            ),
        )
