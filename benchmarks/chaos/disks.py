"""Disks that fill up and become read-only: real ones, of memory, in a mount namespace that ends with this process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

#: Says to the process that it has a namespace of its own, or that it can have none.
_MARK = "EVR1_CHAOS_DISKS"
_SIZE = 256 << 20
_BALLAST = ".ballast"


def enter_own_namespace(module: str, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start this program again under ``environment``, where it may mount disks of its own if it has the right to."""
    if _MARK in os.environ:
        return
    os.environ.update({**environment, _MARK: "none"})
    command: list[str] = []
    for options in (("--mount",), ("--mount", "--map-root-user")):
        probe = ["unshare", *options, "sh", "-c", "mount -t tmpfs tmpfs /tmp"]
        if shutil.which("unshare") and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            command = ["unshare", *options]
            os.environ[_MARK] = "own"
            break
    command += [sys.executable, "-m", module, *words]
    os.execvp(command[0], command)


def can_mount() -> bool:
    return os.environ.get(_MARK) == "own"


class Disk:
    """A disk of its own under a directory, until ``close``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ballast = directory / _BALLAST
        _mount("-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(directory))

    def fill(self, left: int) -> None:
        """Leave no more than ``left`` bytes of room."""
        with self._ballast.open("wb") as file:
            while True:
                status = os.statvfs(self.directory)
                room = status.f_bavail * status.f_frsize - left
                if room <= 0:
                    return
                with suppress(OSError):  # somebody has taken some of it since it was measured
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, room)

    def clear(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)

    def read_only(self, wanted: bool) -> None:
        """Refuse every write, or take them again."""
        until = time.monotonic() + 10
        while True:
            try:
                _mount("-o", f"remount,{'ro' if wanted else 'rw'}", str(self.directory))
                return
            except subprocess.CalledProcessError:  # workers of a killed process have files open for a moment
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def close(self, keep_in: Path | None = None) -> None:
        """Let go of the disk; what it holds is copied to ``keep_in`` first."""
        if keep_in is not None:
            shutil.copytree(self.directory, keep_in, dirs_exist_ok=True)
        subprocess.run(["umount", "--lazy", str(self.directory)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)
