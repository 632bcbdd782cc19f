"""The names of functions and classes in a configuration, all resolved before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from easyvideor1.algorithms.token_batch import ALGORITHMS, check_algorithm
from easyvideor1.config import RunConfig
from easyvideor1.data import resolve_transforms
from easyvideor1.engines.engine import check_contract
from easyvideor1.engines.registry import engines
from easyvideor1.rewards.custom import load_reward, task_key
from easyvideor1.rewards.parts import load_parts
from easyvideor1.rollout.strategies import STRATEGIES
from easyvideor1.training.loggers import check_loggers
from easyvideor1.types import EasyVideoError


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


def _engine(name: str) -> None:
    check_contract(name, engines().resolve(name))


def _names(config: RunConfig) -> Iterator[tuple[str, Callable[[], object]]]:
    yield "rollout.engine", partial(_engine, config.rollout.engine)
    yield "rollout.strategy", partial(STRATEGIES.resolve, config.rollout.strategy)
    for options in config.stages:
        for kind in ALGORITHMS:
            yield f"stages.{options.name}.{kind}", partial(check_algorithm, options, kind)
        if options.transforms:
            yield f"stages.{options.name}.transforms", partial(resolve_transforms, options.transforms)
    if config.data.transforms:
        yield "data.transforms", partial(resolve_transforms, config.data.transforms)
    for task, target in config.rewards.custom.items():
        yield f"rewards.custom.{task}", partial(_custom_reward, task, target)
    if config.rewards.parts:
        yield "rewards.parts", partial(load_parts, config.rewards.parts)
    if config.loggers:
        yield "loggers", partial(check_loggers, config)


def _custom_reward(task: str, target: str) -> None:
    task_key(task)
    load_reward(target)
