"""The names of functions and classes in a configuration, all resolved before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from easyvideor1.algorithms.token_batch import ALGORITHMS, check_algorithm
from easyvideor1.config import RolloutConfig, RunConfig, StageConfig
from easyvideor1.config.transforms import TransformOptions
from easyvideor1.data import resolve_transforms
from easyvideor1.data.curricula import CURRICULA, make_curriculum
from easyvideor1.engines.registry import resolve_engine
from easyvideor1.rewards.custom import load_reward, task_key
from easyvideor1.rewards.parts import load_parts
from easyvideor1.rollout.pairs import load_builders
from easyvideor1.rollout.strategies import check_strategy
from easyvideor1.training.loggers import check_loggers
from easyvideor1.types import ConfigError, EasyVideoError


def resolve_names(config: RunConfig) -> Iterator[tuple[str, EasyVideoError | None]]:
    """Resolve each name in a configuration; yields its key, and the error if nothing has that name.

    Names of your own (``module:attr``) are imported. The options of your own algorithms are checked too.
    """
    for key, resolve in _names(config):
        try:
            resolve()
        except EasyVideoError as error:
            yield key, error
        else:
            yield key, None


def _names(config: RunConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "rollout.engine", partial(resolve_engine, config.rollout.engine)
    yield "rollout.strategy", partial(check_strategy, config.rollout.strategy)
    for options in config.stages:
        yield f"stages.{options.name}.rollout", partial(_check_logprobs, options, config.rollout)
        for kind in ALGORITHMS:
            yield f"stages.{options.name}.{kind}", partial(check_algorithm, options, kind)
        if options.rollouts is not None:
            yield f"stages.{options.name}.rollouts.pairs", partial(load_builders, options.rollouts.pairs)
        if options.curriculum.name != "none":
            place = f"stages.{options.name}.curriculum"
            yield place, partial(make_curriculum, options.curriculum, place)
        if options.transforms:
            yield f"stages.{options.name}.transforms", partial(_stage_transforms, options, options.transforms)
        if config.data.transforms:
            yield "data.transforms", partial(_stage_transforms, options, config.data.transforms, "data.transforms")
    if config.data.transforms and not config.stages:
        yield "data.transforms", partial(resolve_transforms, config.data.transforms, "data.transforms")
    if config.data.prepare:
        yield "data.prepare", partial(_prepare_transforms, config.data.prepare)
    for task, target in config.rewards.custom.items():
        yield f"rewards.custom.{task}", partial(_custom_reward, task, target)
    if config.rewards.parts:
        yield "rewards.parts", partial(load_parts, config.rewards.parts)
    if config.loggers:
        yield "loggers", partial(check_loggers, config)


def _stage_transforms(options: StageConfig, chosen: Sequence[TransformOptions], place: str = "") -> None:
    """Resolve the transforms of a stage, and look whether they find in its curriculum what they read.

    Raises:
        ConfigError: a name or an option is wrong, or the curriculum lacks something.
    """
    place = place or f"stages.{options.name}.transforms"
    for transform in resolve_transforms(chosen, place):
        if not transform.reads:
            continue
        if options.curriculum.name == "none":
            raise ConfigError(
                f"{place}: {transform.section.name} reads the rewards of earlier steps: set "
                f"stages.{options.name}.curriculum{_fitting(transform.reads)}"
            )
        made = make_curriculum(options.curriculum, f"stages.{options.name}.curriculum")
        if missing := [name for name in transform.reads if not hasattr(made, name)]:
            raise ConfigError(
                f"{place}: {transform.section.name} reads {missing[0]} of the curriculum, which "
                f"{options.curriculum.name} does not have: set another "
                f"stages.{options.name}.curriculum{_fitting(transform.reads)}"
            )


def _fitting(reads: Sequence[str]) -> str:
    """The registered curricula that have what a transform reads, as the end of a sentence."""
    fitting = [name for name in CURRICULA.names() if all(hasattr(CURRICULA.resolve(name), read) for read in reads)]
    return f", such as {' or '.join(fitting)}" if fitting else ""


def _prepare_transforms(chosen: Sequence[TransformOptions]) -> None:
    for transform in resolve_transforms(chosen, "data.prepare"):
        if transform.reads:
            raise ConfigError(
                f"data.prepare: {transform.section.name} reads the rewards of earlier steps: name it in the transforms "
                "of a stage"
            )


def cut_of(rollout: RolloutConfig) -> list[str]:
    """The settings that cut the distribution of training's responses, such as ``top_p=0.9``."""
    return [f"top_p={rollout.top_p:g}"] * (rollout.top_p < 1) + [f"top_k={rollout.top_k}"] * (rollout.top_k > 0)


def _check_logprobs(options: StageConfig, rollout: RolloutConfig) -> None:
    """Refuse a stage that needs the engine's log-probs where the engine has none.

    Raises:
        ConfigError: names the cut, the engine, and what needs its log-probs.
    """
    needs = [f"correction: {options.correction.name}"] * (options.correction.name != "none")
    needs += ["objective.old_logprobs: engine"] * (options.old_logprobs == "engine")
    cuts = cut_of(rollout)
    if not needs or not cuts or options.trajectories != "policy":
        return
    unknown = getattr(resolve_engine(rollout.engine), "unknown_logprobs", ())
    if lost := [cut for cut in cuts if cut.partition("=")[0] in unknown]:
        raise ConfigError(
            f"stages.{options.name}.{needs[0]} needs the engine's log-probs, and rollout.engine: {rollout.engine} has "
            f"none of responses drawn with {lost[0]}: leave rollout.{lost[0].partition('=')[0]} out, or set "
            f"{'correction: none' if options.correction.name != 'none' else 'objective.old_logprobs: current'}"
        )


def _custom_reward(task: str, target: str) -> None:
    task_key(task)
    load_reward(target)
