"""The checkpoints of a stage, saved one after the other: at once, or while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from easyvideor1.config import StageConfig
from easyvideor1.policy.policy import Policy
from easyvideor1.policy.snapshot import Snapshot
from easyvideor1.training.run_directory.best import BestCheckpoint
from easyvideor1.training.run_directory.checkpoint import save_checkpoint

#: Seconds that a save gets to end once the run has failed: what it waits for may be a rank on a machine that is gone.
_PATIENCE = 300.0


class CheckpointSaver:
    """Saves a policy. A context: at its end the save under way is finished, and an error of it raised.

    With ``async_save`` a save takes a snapshot, which a thread writes. What fails there is raised by the next call of
    ``check``, ``wait`` or ``save``; older checkpoints stay then, for only a complete one removes any.

    Args:
        policy: to be saved.
        stage_dir: of the stage.
        options: of the stage.
        best: keeps the mark of the best checkpoint.
        last: the checkpoint that the stage was resumed from.
        say: is told that a save has failed where another error ends the stage.
    """

    def __init__(
        self,
        policy: Policy,
        stage_dir: Path,
        options: StageConfig,
        best: BestCheckpoint,
        last: Path | None,
        say: Callable[[str], None],
    ) -> None:
        self._policy, self._stage_dir, self._options, self._best, self._say = policy, stage_dir, options, best, say
        #: The newest checkpoint that is complete.
        self.last = last
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Save the policy as it is after ``step``, once the save before has come to its end.

        Raises:
            OSError: the disk refused.
        """
        self.wait()
        if not self._options.async_save:
            self._write(self._policy.save, step, state)
            return
        snapshot = self._policy.snapshot()
        # A process that ends does not wait for a disk that hangs.
        self._thread = threading.Thread(target=self._in_background, args=(snapshot, step, state), daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a save in the background, if one has failed."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait for the save under way, and raise its error if it fails."""
        self._join()
        self.check()

    def _join(self, timeout: float | None = None) -> bool:
        """Wait for the thread; whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                return False
            self._thread = None
        return True

    def _write(self, write: Callable[[Path], None], step: int, state: Mapping[str, Any]) -> None:
        keep = self._options.keep_checkpoints
        self.last = save_checkpoint(write, self._stage_dir, step, state, keep, self._best.mark)

    def _in_background(self, snapshot: Snapshot, step: int, state: Mapping[str, Any]) -> None:
        try:
            with closing(snapshot):
                self._write(snapshot.write, step, state)
        except BaseException as error:  # noqa: BLE001 - raised where the run is
            self._error = error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
            return
        if not self._join(_PATIENCE):
            self._say(f"the last checkpoint is given up, {_PATIENCE:g} s after the error: its disk or a rank hangs")
        if self._error is not None:
            self._say(f"the last checkpoint could not be saved: {self._error}")
