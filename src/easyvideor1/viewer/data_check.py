"""The rows of a configuration before anything is trained: what can be used, how long prompts become, and what is odd.

Nothing is written where the configuration points to: what probing learns goes to a temporary directory.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from easyvideor1.components import Components
from easyvideor1.config import RunConfig, SourceConfig, located
from easyvideor1.config.paths import is_hub_name, require_sources
from easyvideor1.data import BadRow, Loaded, distinct_stems, embedded_media, scan_source
from easyvideor1.files import flat
from easyvideor1.rewards.audit import TaskAudit, audit, reference_scorer
from easyvideor1.rewards.tag_contents import example_words
from easyvideor1.rewards.tags import full_response
from easyvideor1.types import ConfigError, DataError, EasyVideoError, Geometry, MediaError, MediaPlan, MediaRef, Sample
from easyvideor1.viewer.jobs import Advance

SPLITS = ("train", "validation", "test")
#: The first stage of a check.
READING = "reading rows"
#: How media are cut where there is no checkpoint that says it: as by Qwen3-VL.
_GEOMETRY = Geometry(16, 2, 2)
_CODE_SECTIONS = ("data", "rewards", "model", "prompts")
#: Settings that no code is looked up by and that often have a colon: texts, paths and addresses.
_PLAIN = re.compile(
    r"prompts\..*|data\.\w+\.\d+\.(path|media_root)|model\.path|rewards\.judge\.(url|model|templates.*)"
)


@dataclass(slots=True)
class Row:
    """A row that was read, at its ``place`` among all.

    ``tokens`` is the length of its prompt, ``visual`` what media take of it; ``None`` as long as they are not known,
    and where there is no checkpoint for ``tokens``. ``fault`` says why it cannot be asked.
    """

    place: int
    split: str
    source: str
    sample: Sample
    visual: int | None = None
    tokens: int | None = None
    fault: str = ""

    @property
    def length(self) -> int | None:
        """The tokens that are known: of the prompt, or of its media alone."""
        return self.visual if self.tokens is None else self.tokens


@dataclass(slots=True)
class Source:
    """One source of a split: what was read of it."""

    split: str
    path: str
    rows: int
    used: int
    filtered: int
    bad: tuple[BadRow, ...]
    repaired: int = 0


@dataclass(slots=True)
class DataCheck:
    """What is known so far; another thread fills it, stage by stage, while pages read it.

    ``plans`` has the plan of every medium, or the reason why there is none. ``exact`` says whether prompts were made,
    so that their lengths are known; else ``note`` says why only media are counted.
    """

    config: RunConfig
    trusted: bool = True
    sources: list[Source] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    plans: dict[MediaRef, MediaPlan | str] = field(default_factory=dict)
    audits: tuple[TaskAudit, ...] = ()
    exact: bool = False
    note: str = ""
    stage: str = READING
    finished: bool = False

    @property
    def limit(self) -> int:
        """The longest prompt that training takes, in tokens."""
        return self.config.data.max_prompt_tokens

    def work(self, advance: Advance) -> DataCheck:
        """Read, plan, make prompts and audit; for a thread of its own.

        Raises:
            ConfigError: there is no source, or the configuration runs code or loads from the Hub and is not trusted.
            DataError: a file of rows cannot be used.
        """
        if not self.trusted and (why := foreign_code(self.config)):
            raise ConfigError(f"{why}; to look at these rows, name the file: evr1 view --data FILE")
        with tempfile.TemporaryDirectory(prefix="evr1-view-") as scratch:
            config = located(self.config)
            config = config.model_copy(update={"cache": config.cache.model_copy(update={"dir": scratch})})
            self._read(config, advance)
            self._plan(config, advance)
        self._audit(config, advance)
        self.stage, self.finished = "done", True
        return self

    def _read(self, config: RunConfig, advance: Advance) -> None:
        pairs = [(split, source) for split in SPLITS for source in getattr(config.data, split)]
        if not pairs:
            raise ConfigError(f"{config.name}: no source; set data.train, data.validation or data.test")
        require_sources(config, [source for _, source in pairs])
        for done, (split, source) in enumerate(pairs):
            advance(done, len(pairs), f"reading {source.path}")
            loaded = _scan(source, config)
            self.sources.append(_source(split, loaded))
            first = len(self.rows)
            self.rows += [Row(n, split, loaded.path, sample) for n, sample in enumerate(loaded.samples, first)]
        advance(len(pairs), len(pairs), READING)

    def _plan(self, config: RunConfig, advance: Advance) -> None:
        """Plan all media and, with a checkpoint, make all prompts."""
        self.stage = "planning media"
        components = Components.open(config)
        try:
            _ = components.family
            self.exact = True
        except (EasyVideoError, OSError, ValueError, ImportError) as error:
            self.note = (
                f"Prompts are not made, because the model cannot be opened ({str(error).splitlines()[0]}): tokens are "
                "those of media alone, cut as by Qwen3-VL."
            )
            components = Components.open(config, geometry=_GEOMETRY)
        with components:
            self._plan_media(components, advance)
            for done, row in enumerate(self.rows, 1):
                self._measure(row, components)
                if done % 64 == 0 or done == len(self.rows):
                    advance(done, len(self.rows), "making prompts")

    def _plan_media(self, components: Components, advance: Advance) -> None:
        refs = list(dict.fromkeys(ref for row in self.rows for ref in row.sample.media))
        components.frames.probe_ahead(ref.path for ref in refs)
        for done, ref in enumerate(refs, 1):
            try:
                self.plans[ref] = components.plan(ref)
            except (MediaError, DataError) as error:
                self.plans[ref] = str(error)
            advance(done, len(refs), "planning media")

    def _measure(self, row: Row, components: Components) -> None:
        plans = [self.plans[ref] for ref in row.sample.media]
        faults = [plan for plan in plans if isinstance(plan, str)]
        if faults:
            row.fault = faults[0]
            return
        row.visual = sum(plan.tokens for plan in plans if not isinstance(plan, str))
        if not self.exact:
            return
        try:
            row.tokens = len(components.render(row.sample))
        except (DataError, MediaError) as error:
            row.fault = str(error)

    def _audit(self, config: RunConfig, advance: Advance) -> None:
        self.stage = "scoring references and constants"
        words = example_words(config.rewards.tags)
        self.audits = audit(
            [row.sample for row in self.rows],
            reference_scorer(config.rewards),
            coordinates=config.rewards.coordinates,
            form=lambda answer: full_response(answer, config.rewards.grammar, words),
            seed=config.seed,
            on_task=lambda task, done, total: advance(done, total, f"scoring constants: {task}" if task else "done"),
        )


def foreign_code(config: RunConfig) -> str:
    """What looking at the rows of a configuration would run or load that does not belong to this program; empty if
    nothing. A run may have come from somebody else."""
    values = flat({name: getattr(config, name).model_dump(mode="json") for name in _CODE_SECTIONS})
    for key, value in values.items():
        if key.endswith("trust_remote_code") and value is True:
            return f"{key} lets the checkpoint run its own code"
        # Whatever is before the colon can be the name of a module, even if Python has no such names.
        if isinstance(value, str) and ":" in value and not _PLAIN.fullmatch(key):
            return f"{key} names code ({value})"
        if key == "rewards.chromium" and value:
            return f"{key} names a program ({value})"
    for split in SPLITS:
        for source in getattr(config.data, split):
            if is_hub_name(source.path) and not Path(source.path).exists():
                return f"{source.path} is loaded from the Hub"
    return ""


def _scan(source: SourceConfig, config: RunConfig) -> Loaded:
    return scan_source(
        source,
        config.data,
        check_media=False,
        coordinates=config.rewards.coordinates,
        stem=distinct_stems([source.path])[0],
        embedded=embedded_media(config.cache),
    )


def _source(split: str, loaded: Loaded) -> Source:
    return Source(
        split,
        loaded.path,
        loaded.rows,
        len(loaded.samples),
        loaded.filtered,
        tuple(loaded.bad),
        sum(sample.id in loaded.repaired for sample in loaded.samples),
    )
