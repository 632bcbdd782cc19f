"""File locks between processes. The operating system releases a lock when its holder ends, even when it is killed."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Seconds between two attempts to get a lock that another process holds.
POLL_SECONDS = 0.02
#: What a file system without locks answers.
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@contextmanager
def file_lock(path: str | Path, timeout: float = 0.0) -> Iterator[bool]:
    """Hold the lock file ``path``, which exists only while a process holds it.

    Args:
        path: the lock file; its directory must exist.
        timeout: seconds to wait for another holder; 0 does not wait.

    Yields:
        Whether this process holds the lock; False if another process still holds it after ``timeout`` seconds.

    Raises:
        OSError: the directory cannot be written, or its file system has no locks (see ``locks_unsupported``).
    """
    file = Path(path)
    limit = time.monotonic() + timeout
    while (descriptor := _try_lock(file)) is None and time.monotonic() < limit:
        time.sleep(POLL_SECONDS)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            file.unlink(missing_ok=True)  # before the lock is released, so that nobody locks a file that is gone
            os.close(descriptor)


@contextmanager
def locked_file(path: str | Path) -> Iterator[int]:
    """A descriptor of the file ``path`` to read and append, locked until the block ends. The file is created if needed.

    A process that waited may hold a file that was replaced meanwhile; then the new file is opened. On a file system
    without locks the file is open but not locked.

    Raises:
        OSError: the file cannot be written.
    """
    file = Path(path)
    descriptor = _open_locked(file)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: str | Path) -> bool:
    """Whether a process holds the lock file ``path``. Changes nothing; False where the system cannot tell."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # a file system without locks
    finally:
        os.close(descriptor)
    return False


def locks_unsupported(error: OSError) -> bool:
    """Whether a lock failed because the file system has no locks."""
    return error.errno in _UNSUPPORTED


def _try_lock(path: Path) -> int | None:
    """Descriptor of the locked file; None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    locked = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = _is_same(path, descriptor)
    except BlockingIOError:
        pass
    finally:
        if not locked:
            os.close(descriptor)
    return descriptor if locked else None


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if locks_unsupported(error):
                return descriptor
            os.close(descriptor)
            raise
        if _is_same(path, descriptor):
            return descriptor
        os.close(descriptor)


def _is_same(path: Path, descriptor: int) -> bool:
    """Whether the open file still has its name: its last holder may have removed or replaced it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
