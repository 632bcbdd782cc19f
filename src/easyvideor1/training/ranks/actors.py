"""Ranks as actors of a Ray cluster, in a placement group with one bundle of GPUs or CPUs for each machine.

The first rank is the process of the run, on a machine of the cluster. Its GPU is reserved like those of the others, by
an actor that does nothing else: Ray knows what its actors use, and not what its drivers do.
"""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from easyvideor1.config import ClusterConfig
from easyvideor1.engines.ray_channel import join_cluster
from easyvideor1.types import ConfigError, StoppedError

#: Seconds after which the user is told that Ray does not place the ranks.
_PATIENCE = 60.0
#: Seconds between two looks at the machines of the cluster.
_LOOK_SECONDS = 2
#: Seconds that a run which has lost a machine waits for another.
_MACHINE_SECONDS = 300.0
#: Seconds that a rank may take to end by itself.
_END_SECONDS = 10.0


class Actors:
    """Ranks 1 and up, in the cluster that this process joins. What they print is in the logs of Ray.

    Args:
        cluster: how many ranks there are, on how many machines.
        gpus: of a rank, may be a fraction (an engine then has room beside it); 0 on the CPU.
        again: whether the run had lost a rank, and may wait for a machine.

    Raises:
        ConfigError: there is no such cluster, or not enough of it.
        StoppedError: a machine that was lost did not come back.
    """

    #: See ``Processes``: Ray finds out by and by that an actor or its machine is gone.
    late = 15.0
    shows_output = False

    def __init__(self, cluster: ClusterConfig, *, gpus: float, again: bool = False) -> None:
        join_cluster()
        self._cluster, self._gpus = cluster, gpus
        self._actors: dict[int, Any] = {}
        self._running: dict[int, Any] = {}
        self._seat: Any = None
        self.group = _reserved(cluster, "GPU" if gpus else "CPU", again=again)

    @property
    def on_cpu(self) -> bool:
        """Whether the ranks have reserved CPUs, of which engines would find none left on a small machine."""
        return not self._gpus

    def own_gpu(self) -> int:
        """The number that torch has here for the GPU of the first rank; 0 on the CPU.

        Raises:
            ConfigError: this process does not see that GPU.
        """
        if not self._gpus:
            return 0
        import ray

        self._seat = self._start(_Seat, 0)
        return gpu_number(str(ray.get(self._seat.gpu.remote())))

    def start(self, host: str, port: int) -> None:
        """Start the ranks, which meet at a store."""
        for rank in range(1, self._cluster.ranks):
            # Ranks of a machine have numbers in a row, and hybrid sharding stays within it.
            actor = self._start(_RankHost, rank // self._cluster.ranks_per_node, sys.path, str(Path.cwd()))
            self._actors[rank] = actor
            self._running[rank] = actor.follow.remote(host, port, rank, self._cluster.ranks)

    def ended(self) -> list[int]:
        """See ``Processes``."""
        import ray

        if not self._running:
            return []
        done, _ = ray.wait(list(self._running.values()), num_returns=len(self._running), timeout=0)
        return [rank for rank, running in self._running.items() if running in done]

    def how(self, rank: int) -> str:
        """See ``Processes``."""
        import ray

        try:
            ray.get(self._running[rank], timeout=0)
        except ray.exceptions.GetTimeoutError:
            return "it hangs"
        except ray.exceptions.ActorUnavailableError:
            cause = "its process or its machine cannot be reached"
        except ray.exceptions.RayError as error:
            words = str(error).strip() or type(error).__name__
            cause = words.splitlines()[-1].strip().partition(". ")[0]  # more of it is guesses
        else:
            return "it was closed"
        return f"its actor is gone ({cause}); what it printed is in the logs of Ray"

    def last_words(self, rank: int) -> str:
        """See ``Processes``."""
        return ""

    def wait(self) -> None:
        """See ``Processes``."""
        import ray

        if self._running:
            ray.wait(list(self._running.values()), num_returns=len(self._running), timeout=_END_SECONDS)

    def kill(self) -> None:
        """End all of them at once, and give back what was reserved; may be called again. The cluster stays."""
        import ray

        if not ray.is_initialized():
            return
        for actor in (*self._actors.values(), *([] if self._seat is None else [self._seat])):
            ray.kill(actor)
        ray.util.remove_placement_group(self.group)

    def _start(self, kind: type, bundle: int, *arguments: Any) -> Any:
        import ray

        where = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            self.group, placement_group_bundle_index=bundle
        )
        cpus = 0 if self._gpus else 1
        host = ray.remote(num_gpus=self._gpus, num_cpus=cpus, max_restarts=0)(kind)
        return host.options(scheduling_strategy=where).remote(*arguments)


def gpu_number(gpu: str, visible: str | None = None) -> int:
    """The number that torch has in this process for a GPU of this machine.

    Args:
        gpu: as Ray names it: a number, or the name of a GPU or of a part of one (MIG).
        visible: what this process sees; by default as ``CUDA_VISIBLE_DEVICES`` says.

    Raises:
        ConfigError: this process does not see it, or cannot tell which one it is.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") if visible is None else visible
    if visible is None:
        if gpu.isdecimal():
            return int(gpu)
        raise ConfigError(
            f"Ray has reserved {gpu} of this machine for the first rank, and this process sees all GPUs, by number; "
            f"start it with CUDA_VISIBLE_DEVICES={gpu}, or with all names that the Ray node was started with"
        )
    seen = [each.strip() for each in visible.split(",")]
    # CUDA takes the beginning of a name for the whole of it.
    found = [number for number, name in enumerate(seen) if name == gpu or (name[:4] == "GPU-" and gpu.startswith(name))]
    if not found:
        raise ConfigError(
            f"Ray has reserved GPU {gpu} of this machine for the first rank, and this process sees "
            f"{visible or 'none'} (CUDA_VISIBLE_DEVICES); start it without GPUs of its own, as the run reserves "
            "them (`ray job submit` without --entrypoint-num-gpus), and with the names or numbers that the Ray node "
            "was started with"
        )
    return found[0]


class _Seat:
    """Holds the GPU of the first rank."""

    def gpu(self) -> int | str:
        """Its name on this machine."""
        import ray

        found: int | str = ray.get_gpu_ids()[0]
        return found


class _RankHost:
    """The actor of a rank."""

    def __init__(self, path: list[str], directory: str) -> None:
        sys.path += [entry for entry in path if entry not in sys.path]  # what the run imported is found
        with suppress(OSError):  # on another machine it need not be there
            os.chdir(directory)

    def follow(self, host: str, port: int, rank: int, ranks: int) -> None:
        """See ``member.follow``. Ray shows an actor its own GPUs alone, so that its number is 0."""
        from easyvideor1.training.ranks.line import Line
        from easyvideor1.training.ranks.member import follow

        follow(Line(host, port), rank, ranks, local_rank=0)


def _reserved(cluster: ClusterConfig, resource: str, *, again: bool) -> Any:
    """A placement group with a bundle on each machine, the first on that of this process."""
    import ray

    need, own = cluster.ranks_per_node, ray.get_runtime_context().get_node_id()
    begun, short = time.monotonic(), 0.0
    group: Any = None
    try:
        while True:
            nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get(resource, 0) >= need]
            if own not in [node["NodeID"] for node in nodes]:
                raise ConfigError(
                    f"the first rank is this process, whose machine offers Ray fewer than {need} {resource}s; start it "
                    "on a machine of the cluster that has them, or lower cluster.gpus_per_node or cluster.ranks"
                )
            if len(nodes) < cluster.nodes:
                words = (
                    f"the ranks need {cluster.nodes} machines with {need} {resource}s each, and the Ray cluster has "
                    f"{len(nodes)}; add machines to it, or lower cluster.nodes"
                )
                if not again:
                    raise ConfigError(words)
                if short > _MACHINE_SECONDS:
                    raise StoppedError(f"{words}; the same command resumes the run from its last checkpoint")
                if not short:
                    warnings.warn(
                        f"{words}; the run waits {_MACHINE_SECONDS:g} s for another machine",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                time.sleep(_LOOK_SECONDS)
                short += _LOOK_SECONDS
                continue
            if group is None:
                group = ray.util.placement_group(
                    [{resource: need}] * cluster.nodes,
                    strategy="STRICT_SPREAD" if cluster.nodes > 1 else "STRICT_PACK",
                    bundle_label_selector=[{"ray.io/node-id": own}, *([{}] * (cluster.nodes - 1))],
                )
            if group.wait(_LOOK_SECONDS):
                return group
            if time.monotonic() - begun > _PATIENCE:
                begun = math.inf
                warnings.warn(
                    f"Ray has not reserved {cluster.nodes} times {need} {resource}s for {_PATIENCE:g} s; others may "
                    "use them: see `ray status`",
                    RuntimeWarning,
                    stacklevel=2,
                )
    except BaseException:
        if group is not None:
            ray.util.remove_placement_group(group)
        raise
