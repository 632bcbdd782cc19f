"""Model, prompts, rewards and engine of a configuration, beside its media."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyvideor1.components.media import MediaComponents, Progress
from easyvideor1.components.preparing import read_prepared
from easyvideor1.components.prompt_checks import PromptChecks, still_there
from easyvideor1.config import JudgeConfig, RunConfig, SourceConfig, located
from easyvideor1.config.cluster import launched_ranks
from easyvideor1.config.paths import require_sources
from easyvideor1.data import (
    CHECK_CACHE_NAME,
    BadRow,
    CheckCache,
    Loaded,
    prompt_text,
)
from easyvideor1.data.visual_tokens import tokens_fault
from easyvideor1.rewards import Scorer
from easyvideor1.types import DataError, Geometry, MediaError, MediaPlan, MediaRef, Prompt, Sample, Show
from easyvideor1.video.maintenance import FEATURES_NAME

if TYPE_CHECKING:
    from easyvideor1.engines.engine import Engine, Sampling
    from easyvideor1.engines.worker_messages import WorkerMedia
    from easyvideor1.families.features import FeatureCache, FeatureStore
    from easyvideor1.policy.policy import Policy
    from easyvideor1.rollout.strategies import OfflineStrategy, PromptBuilder, Strategy

#: Prompts are remembered up to this many tokens in all; the oldest go first. With its text and plans a prompt takes
#: some 10 bytes a token when its frames are large and up to 50 when they are many and small: 80 to 400 MB.
REMEMBERED_TOKENS = 1 << 23


@dataclass
class Components(MediaComponents):
    """Everything a configuration names, opened when first used.

    Training and evaluation use the same ``render``, ``load`` and ``scorer``, so a number in a training log and a number
    in a benchmark table come from one function.
    """

    #: What a benchmark changes of a sample and its plans before the prompt is made.
    shown: Show | None = None
    _prompts: dict[tuple[str, tuple[MediaRef, ...], tuple[str, ...]], Prompt] = field(default_factory=dict)
    _remembered: int = 0
    #: The components that these are a variant of.
    _origin: Components | None = None

    @classmethod
    def open(
        cls,
        config: RunConfig,
        checkpoint: str | Path | None = None,
        geometry: Geometry | None = None,
        *,
        retry_timeouts: bool = False,
        shown: Show | None = None,
    ) -> Components:
        """The components for ``checkpoint``, or for ``config.model.path``.

        Args:
            config: the run; their own has its paths as they are found (``located``).
            checkpoint: the model; the configuration's if None.
            geometry: with it, media can be planned without a checkpoint.
            retry_timeouts: whether media that ran into ``cache.deadline`` before, by the ledger, are tried again.
            shown: changes a sample and the plans of its media before they become a prompt.
        """
        config = located(config)
        return cls(config, Path(checkpoint or config.model.path), geometry, retry_timeouts, shown=shown)

    def variant(self, config: RunConfig, shown: Show | None = None) -> Components:
        """Components with other prompts and budgets, such as those of a benchmark, that share the rest with these.

        They have one tokenizer, one frame store and one set of processes that read media, so that many of them cost
        little more than one. Closing any of them ends these processes; what is used again is opened again. Processes
        that score (``rewards.processes``) are those of these components, where the rewards are the same; others score
        in this process.

        Args:
            config: with the same ``model`` and ``cache``.
            shown: as for ``open``.

        Raises:
            ConfigError: there is no such model.
            ValueError: the configuration has another model or cache.
        """
        found = Components.open(
            config, self.checkpoint, self.geometry_given, retry_timeouts=self.retry_timeouts, shown=shown
        )
        if (found.config.model, found.config.cache) != (self.config.model, self.config.cache):
            raise ValueError("components with another model or cache cannot share what reads them")
        found.family, found.check_cache = self.family, self.check_cache
        found.store, found.ledger = self.store, self.ledger
        found.frames, found.prefetcher = self.frames, self.prefetcher
        found._origin = self._origin or self
        return found

    @cached_property
    def scorer(self) -> Scorer:
        """Scores responses, in this process or in others (``rewards.processes``)."""
        rewards, cluster = self.config.rewards, self.config.cluster
        origin = self._origin
        if origin is not None and rewards.processes and rewards == origin.config.rewards:
            return origin.scorer
        if origin is not None or not rewards.processes:  # a variant has no processes of its own: nobody closes it
            return Scorer(rewards)
        from easyvideor1.rollout.reward_workers import RewardWorkers

        return RewardWorkers(rewards, by_ray=cluster.asks_for_ray and launched_ranks() == 1)

    def close(self) -> None:
        """End the processes that decode or score, if any were started; what is used again is opened again."""
        super().close()
        if self._origin is None and (scorer := self.__dict__.pop("scorer", None)) is not None:
            scorer.close()

    @cached_property
    def strategy(self) -> Strategy:
        """The configured rollout strategy, with the length of its prompts checked.

        Raises:
            ConfigError: there is no such strategy.
        """
        from easyvideor1.components.prompting import open_strategy

        return open_strategy(self.config, self._prompt_builder())

    @cached_property
    def offline_strategy(self) -> OfflineStrategy:
        """What makes the prompts that rows' offline trajectories answer; raises as ``strategy``."""
        from easyvideor1.components.prompting import offline_strategy

        return offline_strategy(self.config, self._prompt_builder(), self.strategy)

    def _prompt_builder(self) -> PromptBuilder:
        from easyvideor1.components.prompting import prompt_builder

        shown = None if self.shown is None else self.as_shown
        return prompt_builder(self.config, self.family, render=self.render, plan=self.plan, text=self.text, shown=shown)

    @cached_property
    def check_cache(self) -> CheckCache:
        """The checks of rows and prompts that were passed at earlier starts, by any run with this cache."""
        return CheckCache(Path(self.config.cache.dir) / CHECK_CACHE_NAME)

    @cached_property
    def _prompt_checks(self) -> PromptChecks:
        config = self.config
        limit = config.data.max_prompt_tokens
        return PromptChecks(config.model, self.family, self.checkpoint, self.geometry, config.prompts.system, limit)

    def render(self, sample: Sample) -> Prompt:
        """The prompt of a sample: its media planned, its text templated, all visual tokens expanded.

        Raises:
            ConfigError: a template is wrong.
            MediaError: a medium cannot be probed.
            DataError: the prompt is longer than ``data.max_prompt_tokens``, or text and media disagree.
        """
        if self.shown is None:
            return self._prompt(self.text(sample), sample.media)
        asked, plans = self.as_shown(sample)
        return self._prompt(self.text(asked), asked.media, plans)

    def as_shown(self, sample: Sample) -> tuple[Sample, tuple[MediaPlan, ...]]:
        """A sample and the plans of its media as they are asked."""
        plans = tuple(self.plan(ref) for ref in sample.media)
        return (sample, plans) if self.shown is None else self.shown(sample, plans)

    def text(self, sample: Sample) -> str:
        """The user message of a sample, by the template of its task type."""
        return prompt_text(sample, self.config.prompts, self.config.rewards)

    def _prompt(self, text: str, media: tuple[MediaRef, ...], shown: tuple[MediaPlan, ...] | None = None) -> Prompt:
        """The prompt of a text and its media, with other plans than the budget's if some are ``shown``."""
        # All that a prompt is made of, whatever columns the templates read.
        key = (text, media, tuple(plan.digest for plan in shown or ()))
        if key in self._prompts:
            return self._prompts[key]
        plans = [self.plan(ref) for ref in media] if shown is None else list(shown)
        prompt = self.family.render(text, media, plans, system=self.config.prompts.system)
        if (fault := tokens_fault(prompt)) is not None:
            raise DataError(f"{fault} - correct the render of {type(self.family).__name__}")
        limit = self.config.data.max_prompt_tokens
        if len(prompt) > limit:
            visual = sum(p.tokens for p in plans)
            raise DataError(
                f"the prompt has {len(prompt)} tokens ({visual} of them visual), data.max_prompt_tokens is {limit} "
                "- lower the pixel or frame budget, or raise the limit"
            )
        self._prompts[key] = prompt
        self._remembered += len(prompt)
        while self._remembered > REMEMBERED_TOKENS:
            self._remembered -= len(self._prompts.pop(next(iter(self._prompts))))
        return prompt

    def load_sources(
        self, sources: Sequence[SourceConfig], on_progress: Progress | None = None, *, keep_unreadable: bool = False
    ) -> list[Loaded]:
        """Read, prepare (``data.prepare``) and check all rows of some sources, media and prompt lengths included;
        nothing is decoded.

        With ``keep_unreadable`` rows stay whose media are missing or cannot be probed: whoever asks them sees why.

        Raises:
            ConfigError: there is no such model; before any row is read.
            DataError: a file is not there, or rows are bad and ``data.on_bad_row`` is ``error``; the message names
                file, line, field, remedy.
        """
        _ = self.family
        try:
            loaded = self.read_sources(sources, keep_unreadable=keep_unreadable)
            return self.check(loaded, on_progress, keep_unreadable=keep_unreadable)
        finally:
            self.check_cache.save()  # of sources with bad rows too: once these are mended, only they are new

    def read_sources(self, sources: Sequence[SourceConfig], *, keep_unreadable: bool = False) -> list[Loaded]:
        """The first half of ``load_sources``, which needs no model: rows are read and prepared, not rendered."""
        require_sources(self.config, sources)
        return read_prepared(
            self.config,
            sources,
            self.check_cache,
            check_media=not keep_unreadable,
            probe=self.frames.probe,
            probing=self._probing,
        )

    def check(
        self, loaded: Sequence[Loaded], on_progress: Progress | None = None, *, keep_unreadable: bool = False
    ) -> list[Loaded]:
        """Render every sample of sources that were read already; those that cannot be asked leave.

        What was rendered at an earlier start, and would be rendered from the same things now, is not rendered again.

        Raises:
            DataError: as ``load_sources``.
        """
        _ = self.family  # before files are read, which may take long: this fails at once
        try:
            return self._checked(loaded, on_progress, keep_unreadable)
        finally:
            self.check_cache.save()

    def _checked(self, loaded: Sequence[Loaded], on_progress: Progress | None, keep_unreadable: bool) -> list[Loaded]:
        total, done = sum(len(source.samples) for source in loaded), 0
        checked = []
        with self._probing(ref for source in loaded for sample in source.samples for ref in sample.media):
            for source in loaded:
                bad: dict[str, BadRow] = {}
                for sample in source.samples:
                    try:
                        fault = self._fault(sample)
                    except MediaError as error:
                        fault = None if keep_unreadable else self._media_fault(sample, error)
                    if fault is not None:
                        bad[sample.id] = fault
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total)
                checked.append(source.without(bad, self.config.data.on_bad_row))
        return checked

    def _fault(self, sample: Sample) -> BadRow | None:
        try:
            if not self.config.rollout.strategy.shows_whole:  # the first prompt may fit where the whole would not
                self.strategy.start(sample)
                if sample.offline:
                    self.offline_strategy.start(sample)
                return None
            if self.shown is not None:  # the text depends on plans, so no check of an earlier start stands for it
                self.render(sample)
                return None
            text = self.text(sample)
            key, versions = self._prompt_checks.key(text, sample.media, list(map(self._budget_text, sample.media)))
            if not self.check_cache.knows(key):
                self._prompt(text, sample.media)
                self.check_cache.add(key if still_there(versions) else None)
        except DataError as error:
            what, _, remedy = str(error).partition(" - ")
            return BadRow(sample.where, self.config.data.question_key, what, remedy or "correct the row")
        return None

    def _media_fault(self, sample: Sample, error: MediaError) -> BadRow:
        kinds = [ref.kind for ref in sample.media if ref.path == error.path] or [sample.media[0].kind]
        return BadRow(sample.where, self._column(kinds[0]), str(error), "replace the file or remove the row")

    def open_policy(self) -> Policy:
        """The model with its weights, ready to train."""
        from easyvideor1.policy.policy import Policy

        return Policy.open(self.config.model, self.located_checkpoint())

    def open_features(self, model: Any) -> FeatureCache | None:
        """What is kept of a model's vision tower, with ``cache.features``; else None.

        Raises:
            ConfigError: the tower is trained, or the family has no features to keep.
        """
        from easyvideor1.families.features import FeatureCache

        store = self.features_store()
        return None if store is None else FeatureCache(self.family, model, store)

    def features_store(self) -> FeatureStore | None:
        """Where features are kept, with ``cache.features``; else None."""
        from easyvideor1.families.features import FeatureStore

        cache = self.config.cache
        if not cache.features:
            return None
        return FeatureStore(Path(cache.dir) / FEATURES_NAME, cache.features_mb << 20, self.ledger)

    def open_engine(self, model: Any | None = None, *, group: Any = None) -> Engine:
        """The configured engine for a trainer's model, or with weights of its own from the checkpoint.

        An engine in a process of its own always begins with those of the checkpoint, until it is given others.
        ``group`` is a placement group of Ray for workers that share what it has reserved.
        """
        from easyvideor1.engines.registry import open_engine
        from easyvideor1.engines.worker_messages import Opening, TorchSettings
        from easyvideor1.engines.worker_pool import WorkerPool, open_worker

        rollout = self.config.rollout
        if rollout.engine == "endpoint":
            return self._open_endpoint()
        if rollout.workers:
            opening = Opening(
                rollout.engine,
                self.located_checkpoint(),
                self.config.model,
                rollout.batch_tokens,
                self.worker_media(),
                TorchSettings.of_this_process(),
                rollout.tensor_parallel_size,
                rollout.vllm,
            )
            if rollout.workers == 1 and rollout.placement == "process" and rollout.weight_sync != "collective":
                return open_worker(opening, deadline=rollout.deadline)
            return WorkerPool(
                opening,
                workers=rollout.workers,
                deadline=rollout.deadline,
                placement=rollout.placement,
                gpus_per_worker=rollout.gpus_per_worker,
                group=group,
                weight_sync=rollout.weight_sync,
            )
        return open_engine(
            rollout.engine,
            self.family,
            self.located_checkpoint() if model is None else model,
            self.load,
            batch_tokens=rollout.batch_tokens,
            features=self.features_store(),
            config=self.config.model,
            tensor_parallel_size=rollout.tensor_parallel_size,
            vllm=rollout.vllm,
        )

    def _open_endpoint(self) -> Engine:
        from easyvideor1.engines.endpoint import EndpointEngine

        endpoint = JudgeConfig(**self.config.rollout.endpoint.model_dump())
        return EndpointEngine(self.family, self.load, endpoint, system=self.config.prompts.system)

    def worker_media(self) -> Callable[[], WorkerMedia]:
        """What opens the media of these components in the process of an engine."""
        return partial(open_worker_media, self.config, self.checkpoint, self.geometry)

    def sampling(self) -> Sampling:
        """How training draws tokens."""
        from easyvideor1.engines.engine import Sampling

        rollout = self.config.rollout
        return Sampling(rollout.temperature, rollout.top_p, rollout.top_k, rollout.max_new_tokens)


def open_worker_media(config: RunConfig, checkpoint: Path, geometry: Geometry) -> WorkerMedia:
    """What reads media in the process of an engine: frames and features come from the store, not from the trainer."""
    from easyvideor1.engines.worker_messages import WorkerMedia

    components = Components.open(config, checkpoint, geometry)
    return WorkerMedia(components.load, components.features_store(), components.close)
