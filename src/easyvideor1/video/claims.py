"""Locks between processes that end with their holder, however that dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds between two tries for a lock that somebody else holds.
POLL = 0.02
#: What a file system without locks says.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@contextmanager
def claim_file(path: Path, timeout: float) -> Iterator[bool]:
    """Hold the lock ``path``, a file that is there only as long as it is wanted.

    Yields:
        False when another still holds it after ``timeout`` seconds, or the file system has no locks.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    limit = time.monotonic() + timeout
    fd = None
    try:
        while (fd := _try_lock(path)) is None and time.monotonic() < limit:
            time.sleep(POLL)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield fd is not None
    finally:
        if fd is not None:
            path.unlink(missing_ok=True)  # before the lock is let go, so that nobody locks a file that is gone
            os.close(fd)


def open_locked(path: Path) -> int:
    """A descriptor of the file of that name, to read and append, locked until it is closed; created if it is not there.

    Where the file system has no locks, it is open and not locked. Who waited may hold a file that was replaced
    meanwhile: then it is the new one that is opened.

    Raises:
        OSError: the file cannot be written.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                os.close(fd)
                raise
            return fd
        try:
            if path.stat().st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)


def _try_lock(path: Path) -> int | None:
    """Descriptor of the locked file, or None when it is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    locked = False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = path.stat().st_ino == os.fstat(fd).st_ino
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another, or removed by one that has just finished
    finally:
        if not locked:
            os.close(fd)
    return fd if locked else None
