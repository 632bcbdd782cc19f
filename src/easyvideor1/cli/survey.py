"""Opening what ``evr1 filter`` and ``evr1 trajectories`` have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyvideor1.types import ConfigError

if TYPE_CHECKING:
    from easyvideor1.config import JudgeConfig
    from easyvideor1.training.survey import Response
    from easyvideor1.types import Sample


@dataclass(frozen=True, slots=True)
class Survey:
    """Samples with their responses, and the file that is removed once the output is written."""

    answered: Iterator[tuple[Sample, list[Response]]]
    ledger: Path

    def finish(self, out: Path, samples: Sequence[Sample]) -> None:
        """Write the rows, whole or not at all, and forget what was kept for going on."""
        from easyvideor1.data import write_rows

        write_rows(out, samples)
        self.ledger.unlink()


@contextmanager
def open_survey(
    config: str,
    overrides: Sequence[str],
    out: Path,
    k: int,
    checkpoint: Path | None,
    endpoint: JudgeConfig | None = None,
) -> Iterator[Survey]:
    """Ask every row of ``data.train`` of a configuration k times.

    Raises:
        ConfigError: ``out`` is there already, or there are no rows.
    """
    import torch

    from easyvideor1.cli.progress import progress
    from easyvideor1.config import load_config
    from easyvideor1.training.survey import endpoint_ask, engine_ask, readable, survey, survey_identity
    from easyvideor1.workbench import Workbench

    settings = load_config(config, overrides)
    if out.exists():
        raise ConfigError(f"{out} is there already; remove it, or choose another --out")
    if out.suffix.lower() not in (".jsonl", ".json", ".parquet"):
        raise ConfigError(f"--out {out}: name the file .jsonl, .json or .parquet")
    if not settings.data.train:
        raise ConfigError("no rows: set data.train in the configuration")
    if settings.threads:
        torch.set_num_threads(settings.threads)
    with Workbench.open(settings, checkpoint) as bench:
        with progress("checking rows", unit="row") as advance:
            loaded = bench.load_sources(settings.data.train, advance)
        with progress("building the frame cache", unit="file") as advance:
            built = bench.fill_cache(loaded, advance)
        loaded = bench.without_failed(loaded, built)
        samples = readable([sample for source in loaded for sample in source.samples], bench)
        if endpoint is None:
            ask = engine_ask(bench, bench.open_engine(bench.open_policy().model), k)
        else:
            ask = endpoint_ask(bench, endpoint, k)
        asked: dict[str, Any] = {"url": endpoint.url, "model": endpoint.model} if endpoint else {}
        identity = survey_identity(settings, checkpoint=str(bench.checkpoint), k=k, **asked)
        ledger = out.with_name(f"{out.name}.partial.jsonl")
        with progress("asking", unit="row") as advance:
            yield Survey(survey(samples, ask, bench, ledger, identity, advance), ledger)
