"""What the kernel enforces on a program in the sandbox: loaded by ``runner``, standard library only.

Each layer is taken if this kernel has it and lets us; ``restrict`` says which are in force. None needs any right.

- ``namespaces``: no network (not even the machine's own addresses), no shared memory with others, no rights outside.
- ``scratch``: the program's directory is a file system in memory with room for a few files, gone with the process.
- ``landlock``: files outside that directory and the Python installation do not open, and signals stay inside.
- ``seccomp``: a list of system calls that ordinary programs make; no process, program, socket, mount or trace is in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import resource
import struct
import sys
import sysconfig
from pathlib import Path
from typing import Any

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x08000000, 0x10000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MOUNT_SETATTR, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, 0x8000, 1
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_READ = (1 << 2) | (1 << 3)
_WRITE_ALL = sum(1 << bit for bit in (1, 4, 5, 7, 8))
_DEVICE = (1 << 1) | (1 << 2)
#: Devices that programs use and that lead nowhere.
DEVICES = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero")
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo")
_PROCESSES = 64
_SCRATCH = b"size=64m,nr_inodes=1024,mode=700"

#: Calls that every program may make, as ``name:x86_64:aarch64``; ``-`` where an architecture has no such call.
_CALLS = """
read:0:63 write:1:64 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69 pwritev:296:70
preadv2:327:286 pwritev2:328:287 open:2:- openat:257:56 openat2:437:437 close:3:57 close_range:436:436 fstat:5:80
stat:4:- lstat:6:- newfstatat:262:79 statx:332:291 statfs:137:43 fstatfs:138:44 lseek:8:62 access:21:-
faccessat:269:48 faccessat2:439:439 readlink:89:- readlinkat:267:78 getdents:78:- getdents64:217:61 getcwd:79:17
chdir:80:49 fchdir:81:50 mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 rename:82:-
renameat:264:38 renameat2:316:276 link:86:- linkat:265:37 symlink:88:- symlinkat:266:36 truncate:76:45
ftruncate:77:46 fallocate:285:47 fsync:74:82 fdatasync:75:83 flock:73:32 fcntl:72:25 dup:32:23 dup2:33:- dup3:292:24
pipe:22:- pipe2:293:59 umask:95:166 fadvise64:221:223 sendfile:40:71 copy_file_range:326:285 listxattr:194:11
llistxattr:195:12 flistxattr:196:13 getxattr:191:8 lgetxattr:192:9 fgetxattr:193:10 mmap:9:222 munmap:11:215
mprotect:10:226 mremap:25:216 madvise:28:233 brk:12:214 msync:26:227 mincore:27:232 membarrier:324:283 mlock:149:228
munlock:150:229 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139 rt_sigpending:127:136
rt_sigtimedwait:128:137 rt_sigsuspend:130:133 sigaltstack:131:132 pause:34:- alarm:37:- setitimer:38:103
getitimer:36:102 nanosleep:35:101 clock_nanosleep:230:115 clock_gettime:228:113 clock_getres:229:114
gettimeofday:96:169 time:201:- times:100:153 getrusage:98:165 getpid:39:172 gettid:186:178 getppid:110:173
getuid:102:174 geteuid:107:175 getgid:104:176 getegid:108:177 getgroups:115:158 getpgrp:111:- getpgid:121:155
getsid:124:156 getresuid:118:148 getresgid:120:150 uname:63:160 sysinfo:99:179 getcpu:309:168 getrandom:318:278
getpriority:140:141 sched_yield:24:124 sched_getaffinity:204:123 sched_getparam:143:121 sched_getscheduler:145:120
sched_get_priority_max:146:125 sched_get_priority_min:147:126 futex:202:98 futex_waitv:449:449
set_robust_list:273:99 get_robust_list:274:100 set_tid_address:218:96 rseq:334:293 arch_prctl:158:- poll:7:-
ppoll:271:73 select:23:- pselect6:270:72 epoll_create:213:- epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:-
epoll_pwait:281:22 epoll_pwait2:441:441 eventfd:284:- eventfd2:290:19 timerfd_create:283:85 timerfd_settime:286:86
timerfd_gettime:287:87 ioctl:16:29 sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 shutdown:48:210
getsockopt:55:209 setsockopt:54:208 getsockname:51:204 getpeername:52:205 getrlimit:97:163 wait4:61:260
waitid:247:95 restart_syscall:219:128 exit:60:93 exit_group:231:94
"""
#: Calls that succeed and change nothing: their paths may lie anywhere, and Landlock does not look at them.
_PRETENDED = """
chmod:90:- fchmod:91:52 fchmodat:268:53 fchmodat2:452:452 utimensat:280:88 utime:132:- utimes:235:- futimesat:261:-
"""
#: Calls that are allowed for one value of their first argument only.
_LIMITED = {
    "clone": (56, 220),
    "tgkill": (234, 131),
    "prctl": (157, 167),
    "socketpair": (53, 199),
    "prlimit64": (302, 261),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_CLONE_THREAD, _PR_SET_NAME, _AF_UNIX = 0x10000, 15, 1
_EPERM, _ENOSYS = 1, 38
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000


def readable_roots() -> list[str]:
    """Directories that a program may read: the Python installation and the system's libraries."""
    own = [f"{prefix}/{name}" for prefix in (sys.prefix, sys.base_prefix) for name in ("lib", "lib64")]
    known = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    roots = {os.path.realpath(path) for path in (*own, *known, *_LIBRARIES) if path}
    return [root for root in sorted(roots) if Path(root).is_dir() and root != "/"]


def restrict(box: str) -> list[str]:
    """Put up every layer that this kernel has, and return their names; ``box`` is the program's directory.

    Afterwards the directory may be another one, empty, under the same name.
    """
    if not sys.platform.startswith("linux"):
        _limit_processes()
        return []
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    layers = []
    if _leave(libc):
        layers.append("namespaces")
        # Everything is for reading only, also for calls that Landlock does not look at; older kernels lack the call.
        libc.syscall(_MOUNT_SETATTR, -1, b"/", _AT_RECURSIVE, struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0), 32)
        if libc.mount(b"none", os.fsencode(box), b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, _SCRATCH) == 0:
            layers.append("scratch")
    os.chdir(box)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _landlock(libc, box):
        layers.append("landlock")
    # A version and three empty sets twice over: no right is left, also not inside the namespaces.
    libc.capset(struct.pack("=Ii", 0x20080522, 0), bytes(24))
    architecture = _ARCHITECTURES.get(platform.machine())
    if "namespaces" in layers or architecture is None:
        _limit_processes()
    if architecture is not None and _seccomp(libc, *architecture):
        layers.append("seccomp")
    return layers


def _limit_processes() -> None:
    """The limit counts all processes of the user; inside a namespace of our own these are ours alone."""
    if hasattr(resource, "RLIMIT_NPROC"):
        resource.setrlimit(resource.RLIMIT_NPROC, (_PROCESSES, _PROCESSES))


def _leave(libc: Any) -> bool:
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWNS):
        return False
    with contextlib.suppress(OSError):  # without names for its user the program still has no network
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    return True


def _landlock(libc: Any, box: str) -> bool:
    version = libc.syscall(_LANDLOCK_CREATE, None, 0, 1)
    if version < 1:
        return False
    bits = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    network = 3 if version >= 4 else 0
    scoped = 3 if version >= 6 else 0
    attributes = struct.pack("=QQQ", (1 << bits) - 1, network, scoped)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, size, 0)
    if ruleset < 0:
        return False
    truncate = 1 << 14 if version >= 3 else 0
    _allow(libc, ruleset, box, _READ | _WRITE_ALL | truncate)
    for root in readable_roots():
        _allow(libc, ruleset, root, _READ)
    for device in DEVICES:
        _allow(libc, ruleset, device, _DEVICE)
    enforced: bool = libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return enforced


def _allow(libc: Any, ruleset: int, path: str, access: int) -> None:
    if Path(path).exists():
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", access, fd), 0)
        os.close(fd)


def _seccomp(libc: Any, column: int, architecture: int) -> bool:
    """Install the filter; what is not allowed fails as if this kernel had no such call."""
    program = b"".join(_filter(column, architecture))
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HP", len(program) // 8, ctypes.addressof(buffer))
    return bool(libc.prctl(_PR_SET_SECCOMP, 2, header, 0, 0) == 0)


def _filter(column: int, architecture: int) -> list[bytes]:
    """Classic BPF over ``struct seccomp_data``: number at 0, architecture at 4, first argument at 16."""

    def step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", code, yes, no, value)

    def load(offset: int) -> bytes:
        return step(0x20, offset)

    def end(value: int) -> bytes:
        return step(0x06, value)

    def only_if(code: int, number: int, value: int) -> list[bytes]:
        """Allow the call if the low half of its first argument passes the test."""
        return [step(0x15, number, 0, 4), load(16), step(code, value, 0, 1), end(_ALLOW), end(_FAIL | _EPERM)]

    equal, has = 0x15, 0x45
    number = {name: numbers[column] for name, numbers in _LIMITED.items()}
    refused = end(_FAIL | _ENOSYS)
    steps = [load(4), step(equal, architecture, 1, 0), refused, load(0)]
    if column == 0:
        steps += [step(0x35, 0x40000000, 0, 1), refused]  # the second table of calls of x86_64
    for calls, verdict in ((_CALLS, _ALLOW), (_PRETENDED, _FAIL)):
        for call in calls.split():
            wanted = call.split(":")[1 + column]
            if wanted != "-":
                steps += [step(equal, int(wanted), 0, 1), end(verdict)]
    steps += only_if(has, number["clone"], _CLONE_THREAD)
    steps += only_if(equal, number["tgkill"], os.getpid())
    steps += only_if(equal, number["prctl"], _PR_SET_NAME)
    steps += only_if(equal, number["socketpair"], _AF_UNIX)
    steps += only_if(equal, number["prlimit64"], 0)
    return [*steps, refused]
