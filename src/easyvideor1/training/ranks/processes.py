"""How ranks come to be: processes that the run starts on its machine, or those of a launcher such as torchrun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from easyvideor1.config import ClusterConfig
from easyvideor1.config.cluster import launched_ranks
from easyvideor1.types import ConfigError

#: Lines of a rank's output that are kept for messages.
_KEPT_LINES = 20
#: Seconds that a rank may take to end by itself.
_END_SECONDS = 10.0
_PROGRAM = (
    "import sys; from easyvideor1.training.ranks.member import main; "
    "main(sys.argv[1], *(int(each) for each in sys.argv[2:]))"
)


@dataclass(frozen=True, slots=True)
class Launched:
    """The place that a launcher has given this process; ``serves`` says whether it hosts the store."""

    rank: int
    ranks: int
    local_rank: int
    host: str
    port: int
    serves: bool
    prefix: str


def launched(cluster: ClusterConfig) -> Launched | None:
    """What a launcher says in the environment; ``None`` if this process was started alone.

    Raises:
        ConfigError: it has started another number of ranks than the configuration says.
    """
    if (ranks := launched_ranks()) == 1:
        return None
    if ranks != cluster.ranks:
        raise ConfigError(
            f"the launcher has started {ranks} processes (WORLD_SIZE), and cluster.ranks is {cluster.ranks}; "
            f"set cluster.ranks={ranks}"
        )
    rank = int(os.environ["RANK"])
    return Launched(
        rank,
        ranks,
        int(os.environ.get("LOCAL_RANK", rank)),
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        f"evr1/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/",
    )


def by_ray(cluster: ClusterConfig, place: Launched | None) -> bool:
    """Whether the further ranks are actors of Ray.

    Raises:
        ConfigError: they cannot be where the configuration wants them.
    """
    if place is not None:
        if cluster.placement == "ray":
            raise ConfigError(
                "cluster.placement is ray, and a launcher has started this process (RANK and WORLD_SIZE are set); "
                "start one process without it, or set cluster.placement=process"
            )
        return False
    if cluster.placement == "process" and cluster.nodes > 1:
        raise ConfigError(
            f"cluster.placement is process, and cluster.nodes is {cluster.nodes}: this process starts ranks on its own "
            "machine alone; set cluster.placement=ray, or start it on every machine with torchrun"
        )
    return cluster.placement == "ray" or cluster.nodes > 1


class Processes:
    """Ranks 1 and up, as processes on this machine. What they print comes out on stderr, and the end of it is kept."""

    #: Seconds that may pass before ``ended`` says that a rank has ended.
    late = 0.0
    #: Whether what ranks print is seen.
    shows_output = True

    def __init__(self, host: str, port: int, ranks: int) -> None:
        path = os.pathsep.join(dict.fromkeys(filter(None, sys.path)))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lines: dict[int, deque[str]] = {}
        self._relays = []
        for rank in range(1, ranks):
            self._processes[rank] = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, host, str(port), str(rank), str(ranks)],
                stdin=subprocess.PIPE,  # closes when this process ends, and the rank ends then
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # a keyboard interrupt goes to the run, which then ends its ranks
            )
            self._lines[rank] = deque(maxlen=_KEPT_LINES)
            self._relays.append(threading.Thread(target=self._relay, args=(rank,), daemon=True))
            self._relays[-1].start()

    def ended(self) -> list[int]:
        """Ranks that have ended."""
        return [rank for rank, process in self._processes.items() if process.poll() is not None]

    def how(self, rank: int) -> str:
        """How a rank ended."""
        code = self._processes[rank].poll()
        if code is None:
            return "it hangs"
        words = f"exit status {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        return words + (" (the kernel does this when memory runs out)" if code == -signal.SIGKILL else "")

    def last_words(self, rank: int) -> str:
        """The end of what a rank printed."""
        if self._processes[rank].poll() is not None:
            self._relays[rank - 1].join(1.0)
        printed = "\n".join(list(self._lines[rank]))
        return f"; its last lines:\n{printed}" if printed else ""

    def wait(self) -> None:
        """Let all of them end by themselves, for a while."""
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)

    def kill(self) -> None:
        """End all of them at once; may be called again."""
        for process in self._processes.values():
            if process.poll() is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # what a rank has started, too
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):  # the kernel holds it, as for a disk or a driver that hangs
                process.wait(_END_SECONDS)
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
        for relay in self._relays:
            relay.join(1.0)

    def _relay(self, rank: int) -> None:
        output = self._processes[rank].stdout
        assert output is not None
        with output:
            for line in output:
                text = line.decode(errors="replace").rstrip().rpartition("\r")[-1]  # the end of a progress bar
                self._lines[rank].append(text)
                print(f"[rank {rank}] {text}", file=sys.stderr, flush=True)
