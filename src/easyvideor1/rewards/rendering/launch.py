"""Starts a browser without a network: a script that leaves its namespaces and becomes the browser.

Arguments: whether to use namespaces (``0`` or ``1``), the two descriptors of the protocol, and the browser's command.
The browser sees itself as an ordinary user, so that its own sandbox works for root as well.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
from pathlib import Path

_USER, _NET, _IPC = 0x10000000, 0x40000000, 0x08000000
#: What the browser calls the user that runs it: anybody but root.
_INSIDE = 1000


def _leave() -> bool:
    """Enter namespaces of our own, without a network; false where the kernel does not let us."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(_USER | _NET | _IPC):
        return False
    try:
        for name, content in (
            ("setgroups", "deny"),
            ("uid_map", f"{_INSIDE} {uid} 1"),
            ("gid_map", f"{_INSIDE} {gid} 1"),
        ):
            Path("/proc/self", name).write_text(content)
    except OSError:
        return False
    return True


def _can_leave() -> bool:
    """Whether a child of ours gets through: some systems make namespaces and then give no rights in them."""
    child = os.fork()
    if not child:
        os._exit(0 if _leave() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main() -> None:
    """Become the browser."""
    wanted, read, write, command = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (read, write)]
    for fd, place in zip(high, (3, 4), strict=True):
        os.dup2(fd, place)
        os.close(fd)
    inside = False
    if sys.platform.startswith("linux"):
        # Of all processes the browser goes first when memory runs out.
        Path("/proc/self/oom_score_adj").write_text("1000")
        inside = wanted == "1" and _can_leave() and _leave()
    if os.geteuid() == 0 and not inside:
        command.insert(1, "--no-sandbox")  # it refuses to start as root with one
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
