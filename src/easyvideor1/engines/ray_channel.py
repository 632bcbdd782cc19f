"""Ray actors as hosts of workers, such as those of engines, and the trainer's end of the line to one.

Ray places the actors on the devices and machines of its cluster, carries the messages, and notices when an actor or its
machine dies. What a worker does, and how a dead one is replaced, is the same as for processes: Ray restarts nothing.
"""

from __future__ import annotations

import math
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from easyvideor1.engines.process import ENGINE_LOOP
from easyvideor1.engines.worker_process import run_loop
from easyvideor1.types import ConfigError

#: Seconds that the thread which waits for messages gets to end, once the actor is killed.
_END_SECONDS = 5.0
#: Seconds that an actor gets to say where it is; the weights of one that has not started are broadcast.
_PLACE_SECONDS = 20.0
#: Seconds after which the user is told that an actor does not start.
_PATIENCE = 60.0


def join_cluster() -> None:
    """Join the Ray cluster that ``RAY_ADDRESS`` names; without it start one on this machine, for this process alone.

    A process that has joined one already stays there. A cluster that is started here ends with this process, one that
    is joined goes on. It reports no usage, and it has no dashboard.

    Raises:
        ConfigError: Ray is not installed, or there is no such cluster.
    """
    ray = _ray()
    if ray.is_initialized():
        return
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {} if address else {"include_dashboard": False}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="WARNING", **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"placement: the Ray cluster at {address or 'this machine'} cannot be joined: {error}; correct or unset "
            "RAY_ADDRESS, or set rollout.placement and cluster.placement to process"
        ) from error


def leave_cluster() -> None:
    """Leave the cluster, where this process has joined one: one that was started here ends, others go on."""
    if "ray" in sys.modules and _ray().is_initialized():
        _ray().shutdown()


def require_gpus(count: float) -> None:
    """Check that the joined cluster has so many GPUs; actors that never fit would be waited for without end.

    Raises:
        ConfigError: it has fewer.
    """
    there = _ray().cluster_resources().get("GPU", 0.0)
    if count > there:
        raise ConfigError(
            f"rollout.workers with rollout.gpus_per_worker need {count:g} GPUs, the Ray cluster has {there:g}; lower "
            "them, or add machines to the cluster"
        )


def own_address() -> str:
    """The address of this machine as others of the cluster reach it."""
    address: str = _ray().util.get_node_ip_address()
    return address


class RayChannel:
    """A ``Channel`` to an actor that it starts, in the cluster that this process has joined.

    Args:
        gpus: GPUs of the actor, may be a fraction; Ray hides the others from it.
        cpus: CPUs that Ray reserves; ``None`` is one while it chooses the machine, and none afterwards.
        on_message: called from a thread whenever a message comes or the actor dies.
        group: a placement group that the actor is in; ``number`` says in which of its bundles, in turn.
        serve: ``module:attr`` of the worker's loop, which is called with its ``Port``.
    """

    def __init__(
        self,
        *,
        gpus: float = 0.0,
        cpus: float | None = None,
        on_message: Callable[[], None] = lambda: None,
        group: Any = None,
        number: int = 0,
        serve: str = ENGINE_LOOP,
    ) -> None:
        join_cluster()
        ray = _ray()
        host = ray.remote(num_gpus=gpus, max_restarts=0, concurrency_groups={"inbox": 1, "outbox": 1})(_Host)
        # One actor after the other goes to the node with the most room.
        where: dict[str, Any] = {"scheduling_strategy": "SPREAD"} | ({} if cpus is None else {"num_cpus": cpus})
        if group is not None:
            bundle = number % group.bundle_count
            strategy = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=bundle
            )
            where = {"scheduling_strategy": strategy, "num_cpus": 0}  # bundles of GPUs have no CPUs
        self._actor = host.options(**where).remote(sys.path, str(Path.cwd()), serve)
        self._place = self._actor.place.remote()  # before the loop, which does not end
        self._serving = self._actor.serve.remote()
        self._incoming: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._on_message = on_message
        self._gpus = gpus
        self._shares: bool | None = None
        self._patient_until = time.monotonic() + _PATIENCE
        self._ended = self._killed = False
        self._cause = ""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def shares_memory(self) -> bool:
        """See ``Channel``: an actor of this machine and user does, unless it has a device of its own."""
        if self._shares is None:
            ray = _ray()
            try:
                self._shares = self._gpus == 0 and ray.get(self._place, timeout=_PLACE_SECONDS) == _own_place()
            except ray.exceptions.GetTimeoutError:
                self._shares = False
            except ray.exceptions.RayError:
                return False  # it is dead
        return self._shares

    def send(self, message: Any) -> None:
        """See ``Channel``."""
        self._actor.tell.options(concurrency_group="inbox").remote(message)

    def receive(self, timeout: float) -> Any:
        """See ``Channel``."""
        if self._ended:
            return None
        try:
            message = self._incoming.get(timeout=timeout) if timeout > 0 else self._incoming.get_nowait()
        except queue.Empty:
            self._tell_waiting()
            return None
        self._ended = message is None
        return message

    def alive(self) -> bool:
        """See ``Channel``."""
        return not self._ended

    def kill(self) -> None:
        """See ``Channel``. The cluster stays."""
        if self._killed:
            return
        self._killed = self._ended = True
        if _ray().is_initialized():
            _ray().kill(self._actor)
        self._thread.join(_END_SECONDS)

    def last_words(self) -> str:
        """See ``Channel``. What an actor printed is in the log files of Ray."""
        self._thread.join(_END_SECONDS)
        return f"{self._cause or 'it hangs'}; what it printed is in the logs of Ray (ray logs)"

    def _tell_waiting(self) -> None:
        """Warn once if Ray does not place the actor."""
        if time.monotonic() < self._patient_until:
            return
        self._patient_until = math.inf
        placed, _ = _ray().wait([self._place], timeout=0)
        if not placed:
            warnings.warn(
                f"Ray has not started a worker for {_PATIENCE:g} s; it may wait for GPUs or CPUs: see `ray status`",
                RuntimeWarning,
                stacklevel=2,
            )

    def _read(self) -> None:
        ray = _ray()
        try:
            ended = False
            while not ended:
                messages, ended = ray.get(self._actor.said.options(concurrency_group="outbox").remote())
                for message in messages:
                    self._incoming.put(message)
                self._on_message()
            ray.get(self._serving)  # raises what ended the loop, if anything did
            self._cause = "it was closed"
        except (ray.exceptions.RayError, RuntimeError) as error:  # the second after ``ray.shutdown``
            self._cause = " ".join(str(error).split())
        self._incoming.put(None)
        self._on_message()


class _Host:
    """The actor: a worker's loop in one thread, and the messages to and from it in two others."""

    def __init__(self, path: list[str], directory: str, serve: str) -> None:
        sys.path += [entry for entry in path if entry not in sys.path]  # what the trainer imported is found
        with suppress(OSError):  # on another machine it need not be there
            os.chdir(directory)
        self._port, self._serve = _QueuePort(), serve

    def place(self) -> tuple[str, int]:
        """See ``_own_place``."""
        return _own_place()

    def serve(self) -> None:
        """Work until the trainer says ``Close``."""
        try:
            run_loop(self._serve, self._port)
        finally:
            self._port.said.put(None)

    def tell(self, message: Any) -> None:
        """Take a message of the trainer."""
        self._port.told.put(message)

    def said(self) -> tuple[list[Any], bool]:
        """Wait for messages of the worker; returns all that are there, and whether they are the last."""
        found = [self._port.said.get()]
        while not self._port.said.empty():
            found.append(self._port.said.get())
        return [message for message in found if message is not None], None in found


class _QueuePort:
    """A ``Port`` over two queues."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.said: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def send(self, message: Any) -> None:
        """See ``Port``."""
        self.said.put(message)

    def receive(self, timeout: float | None) -> Any:
        """See ``Port``."""
        try:
            return self.told.get(timeout=timeout) if timeout is None or timeout > 0 else self.told.get_nowait()
        except queue.Empty:
            return None


def _own_place() -> tuple[str, int]:
    """The node of Ray, and the user: processes for which both are equal can map each other's memory."""
    return _ray().get_runtime_context().get_node_id(), os.getuid()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            'placement: ray needs the package ray; run pip install "easyvideor1[ray]", or set rollout.placement and '
            "cluster.placement to process"
        ) from error
    return ray
