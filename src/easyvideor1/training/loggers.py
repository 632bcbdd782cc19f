"""Where metrics go beside the files of a run: TensorBoard, Weights & Biases, trackio, SwanLab, or a logger of the user.

Each logger gets the metrics of the files in its own thread. A logger that raises, waits for a network or hangs never
stops a run; the failure is reported once. Each step is sent once: steps that a resumed run repeats, with the same
metrics, are not sent again.
"""

from __future__ import annotations

import importlib
import importlib.util
import queue
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from easyvideor1.config import RunConfig
from easyvideor1.files import write_text
from easyvideor1.registry import load_attribute
from easyvideor1.types import ConfigError

#: Steps that wait for a slow logger; older ones are dropped.
_WAITING = 1000
#: Seconds that the end of a run waits for what is left to be sent.
_PATIENCE = 20.0


class Logger(Protocol):
    """Takes the metrics of a run; made as ``factory(config, run_dir)``."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of a step; steps count through all stages of a run."""
        ...

    def finish(self) -> None:
        """No more steps come."""
        ...


class TensorBoard:
    """Event files in ``tensorboard`` of the run directory."""

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Service:
    """What Weights & Biases, trackio and SwanLab have in common: ``init``, ``log(metrics, step=)`` and ``finish``."""

    def __init__(self, package: str, config: RunConfig, **options: Any) -> None:
        self._module: Any = importlib.import_module(package)
        settings = config.model_dump(mode="json")
        self._module.init(project=config.project, config=settings, **options)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._module.log(dict(metrics), step=step)

    def finish(self) -> None:
        self._module.finish()


def _wandb(config: RunConfig, run_dir: Path) -> Logger:
    identity = _identity(run_dir, "wandb")
    return _Service("wandb", config, name=config.name, dir=str(run_dir), resume="allow", id=identity)


def _trackio(config: RunConfig, run_dir: Path) -> Logger:
    return _Service("trackio", config, name=config.name, resume="allow")


def _swanlab(config: RunConfig, run_dir: Path) -> Logger:
    directory, identity = str(run_dir / "swanlab"), _identity(run_dir, "swanlab")
    return _Service("swanlab", config, experiment_name=config.name, logdir=directory, resume="allow", id=identity)


def _identity(run_dir: Path, service: str) -> str:
    """The id under which a resumed run continues at the service; kept in the run directory."""
    file = run_dir / f"{service}_id.txt"
    if not file.exists():
        write_text(file, secrets.token_hex(16)[:21])  # the length that SwanLab asks for
    return file.read_text(encoding="utf-8").strip()


#: Name -> the package it needs, what to install, and how it is made.
LOGGERS: Mapping[str, tuple[str, str, Callable[[RunConfig, Path], Logger]]] = {
    "tensorboard": ("tensorboard", "tensorboard", TensorBoard),
    "wandb": ("wandb", "wandb", _wandb),
    "trackio": ("trackio", "trackio", _trackio),
    "swanlab": ("swanlab", "swanlab", _swanlab),
}


def check_loggers(config: RunConfig) -> None:
    """Find every logger of a configuration; none is made.

    Raises:
        ConfigError: a name is unknown, or its package is not installed.
    """
    for name in config.loggers:
        if ":" in name:
            load_attribute(name, "logger")
        elif name not in LOGGERS:
            known = ", ".join(LOGGERS)
            raise ConfigError(f"loggers: unknown logger {name!r}; known: {known}; or your own: module:attr")
        elif importlib.util.find_spec(LOGGERS[name][0]) is None:
            raise ConfigError(f"loggers: {name} is not installed; pip install {LOGGERS[name][1]}, or remove it")


class Loggers:
    """All loggers of a run, each in a thread of its own."""

    def __init__(self, config: RunConfig, run_dir: Path, say: Callable[[str], None]) -> None:
        self._threads = [_Thread(name, config, run_dir, say) for name in config.loggers]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Hand metrics to all loggers and return at once."""
        for thread in self._threads:
            thread.put((step, dict(metrics)))

    def finish(self) -> None:
        """Wait for what is left, but not for ever."""
        until = time.monotonic() + _PATIENCE
        for thread in self._threads:
            thread.put(None)
        for thread in self._threads:
            thread.end(max(0.0, until - time.monotonic()))


class _Thread:
    def __init__(self, name: str, config: RunConfig, run_dir: Path, say: Callable[[str], None]) -> None:
        self._name = name
        self._say = say
        self._sent = run_dir / "loggers" / (re.sub(r"[^\w.-]", "_", name) + ".txt")
        self._queue: queue.Queue[tuple[int, dict[str, float]] | None] = queue.Queue(_WAITING)
        self._dropped = False
        self._thread = threading.Thread(target=self._run, args=(config, run_dir), name=f"logger {name}", daemon=True)
        self._thread.start()

    def put(self, item: tuple[int, dict[str, float]] | None) -> None:
        while True:
            try:
                self._queue.put_nowait(item)
                return
            except queue.Full:
                self._tell("is slower than the run; it skips older steps")
                try:
                    self._queue.get_nowait()
                except queue.Empty:
                    continue

    def end(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._tell("did not finish in time and was abandoned")

    def _run(self, config: RunConfig, run_dir: Path) -> None:
        try:
            factory = load_attribute(self._name, "logger") if ":" in self._name else LOGGERS[self._name][2]
            logger = factory(config, run_dir)
            last = self._last_sent()
            while (item := self._queue.get()) is not None:
                if item[0] > last:
                    logger.log(*item)
                    write_text(self._sent, str(item[0]))
            logger.finish()
        except Exception as error:  # noqa: BLE001 - a logger never stops a run, whatever it raises
            self._tell(f"raised {type(error).__name__}: {error}; the run continues without it")
            while self._queue.get() is not None:
                pass

    def _last_sent(self) -> int:
        """The last step that an earlier start of the run sent; 0 if there was none, or it is unknown."""
        try:
            return int(self._sent.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0

    def _tell(self, what: str) -> None:
        if not self._dropped:
            self._dropped = True
            self._say(f"WARNING: logger {self._name} {what}. All metrics are in the files of the run.")
