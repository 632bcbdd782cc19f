"""The first rank's side: it calls the others, waits for what they return, and notices when one dies or stalls.

A rank that is gone leaves the others in a collective operation. gloo ends that with an error, which is then said in
words; where an operation does not end by itself, the process is ended once the words are out. No rank waits for ever.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

import torch
import torch.distributed as dist

from easyvideor1.config import ClusterConfig
from easyvideor1.engines.ray_channel import own_address
from easyvideor1.families.family import chosen_device
from easyvideor1.policy.phase import Phase
from easyvideor1.policy.sharding import RankPlace
from easyvideor1.training.ranks.actors import Actors
from easyvideor1.training.ranks.interrupt import interrupt_main
from easyvideor1.training.ranks.line import Line
from easyvideor1.training.ranks.member import SILENT_SECONDS, Beats, join, rank_device
from easyvideor1.training.ranks.messages import Beat, Bye, Call, Opening, RankFault
from easyvideor1.training.ranks.processes import Launched, Processes, by_ray
from easyvideor1.training.ranks.restart import NO_RESTART, Restart
from easyvideor1.training.ranks.shares import Share, ShareSender
from easyvideor1.training.ranks.wire import packed
from easyvideor1.types import ConfigError, EasyVideoError, StoppedError

#: Seconds between two looks at the other ranks.
_LOOK_SECONDS = 0.2
#: Seconds that an operation with a dead rank gets to fail by itself.
_GRACE_SECONDS = 20.0
#: Seconds that its error waits for the words.
_WORDS_SECONDS = 5.0
#: Seconds that the run gets to end once it is interrupted; a checkpoint may be on its way to the disk.
_UNWIND_SECONDS = 600.0
#: Seconds that an interrupt may take from one thread to another.
_ARRIVAL_SECONDS = 0.5
_BYE_SECONDS = 10.0
#: Seconds without a sign of life, once an operation has failed, after which a rank is taken for the cause.
_FAILED_SECONDS = 10.0
#: Seconds that may pass until it is known that a rank which this process did not start has ended.
_REMOTE_SECONDS = 15.0


class RankError(StoppedError):
    """A rank failed or is lost; the run can be resumed from its last checkpoint."""


class RankLost(RankError):  # noqa: N818 (what happened to it, and no mistake of the user's)
    """A rank ended, is silent or stalls. Unlike an error of its own, this need not come again."""


class Ranks:
    """The ranks of a run, of which this process is the first. A context: they end with it.

    ``restart`` says what becomes of the process where a rank is lost and an operation with it does not end.
    ``engine_share`` is what engines have of every GPU that Ray reserves.

    Raises:
        ConfigError: ranks cannot be where the configuration wants them.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        place: Launched | None,
        restart: Restart = NO_RESTART,
        *,
        engine_share: float = 0.0,
    ) -> None:
        self.cluster, self._place, self._restart = cluster, place, restart
        self._by_ray, self._engine_share = by_ray(cluster, place), engine_share
        self.phase = Phase()
        self._line = Line(place.host, place.port, serves=place.serves, prefix=place.prefix) if place else None
        self._started: Processes | Actors | None = None
        self._number = 0
        #: Ranks beside this one by group: those of a group compute together.
        self._members = Counter(rank // cluster.sequence_parallel for rank in range(1, cluster.ranks))
        self._sender = ShareSender(self._members)
        #: To all other ranks together, so far.
        self.sent_bytes = 0
        self._calling = self._opened = False
        self._verdict: EasyVideoError | None = None
        #: Since when an operation with the others has failed, and when an error of one was first seen.
        self._failing: float | None = None
        self._fault_seen: float | None = None
        self._closed, self._said = threading.Event(), threading.Event()
        #: Held to interrupt the run, and to leave it: no interrupt comes after its end.
        self._ending, self._interrupted = threading.Lock(), False
        self._thread = threading.current_thread()
        self._beats: Beats | None = None
        if self._line is not None:
            self._begin(self._line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            self._end(self._closed)
            if self._interrupted and not interrupted:
                time.sleep(_ARRIVAL_SECONDS)  # ours may be on its way: here, and not in what follows the run
        except KeyboardInterrupt:
            interrupted = True
            self._closed.set()
        self._close(failed=error is not None or interrupted)
        if interrupted and self._verdict is not None and (self._interrupted or not self._said.is_set()):
            self._said.set()
            raise self._verdict from None  # the interrupt was ours
        if interrupted and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt

    def open(self, opening: Opening) -> RankPlace:
        """Have all ranks, and meet them; each then opens its part of the policy (``await_opened``).

        Raises:
            ConfigError: a rank has no device.
            RankError: a rank died.
        """
        ranks = self.cluster.ranks
        device = self._start(opening) if self._place is None else rank_device(opening.model, self._place.local_rank)
        assert self._line is not None
        self._opened = True
        self._line.put("opening", opening)
        self._await("here")
        with self._blaming():
            return join(self._line, 0, ranks, opening, device)

    def _start(self, opening: Opening) -> torch.device:
        """Start the other ranks; returns the device of this one."""
        kind = chosen_device(opening.model).type
        if self.cluster.gpus_per_node and kind != "cuda":
            raise ConfigError(
                f"cluster.gpus_per_node is {self.cluster.gpus_per_node}, and the first rank, this process, computes on "
                f"the {kind.upper()}; start it where torch finds GPUs, or leave it out and set cluster.ranks"
            )
        if self._by_ray:
            gpus = 1.0 - self._engine_share if kind == "cuda" else 0.0
            self._started = actors = Actors(self.cluster, gpus=gpus, again=self._restart.done > 0)
            device = rank_device(opening.model, actors.own_gpu())
            self._line = Line(own_address(), 0, serves=True)
            actors.start(self._line.host, self._line.port)
        else:
            device = rank_device(opening.model, 0)
            self._line = Line("127.0.0.1", 0, serves=True)
            self._started = Processes(self._line.host, self._line.port, self.cluster.ranks)
        self._begin(self._line)
        return device

    def await_opened(self) -> None:
        """Wait until every rank has opened its part."""
        self._await("ready")

    @contextmanager
    def calling(self, call: Call, shares: Sequence[Share] = ()) -> Iterator[list[Any]]:
        """Have the other ranks do what this one does in the block; their results are in the list behind it.

        ``shares`` are those of all groups in a pass.
        """
        assert self._line is not None
        line, number, results = self._line, self._number, list[Any]()
        self._check()
        self._number += 1
        self.phase.at(f"begins {call.method}")
        self._put(f"call/{number}", packed(call), sum(self._members.values()))
        parts = self._sender.pack(shares) if call.passes else ()
        for group, data in parts:
            self._put(f"share/{number}/{group}", data, self._members[group])
        with self._blaming():
            yield results
            self.phase.at("waits for the results of the others")
            for rank in range(1, self.cluster.ranks):
                key = f"result/{number}/{rank}"
                results.append(line.wait(key, self._check)[0])
                line.drop(key)
            line.drop(f"call/{number}")
            for group in self._members if call.passes else ():
                line.drop(f"share/{number}/{group}")

    def _put(self, key: str, data: bytes, readers: int) -> None:
        assert self._line is not None
        self.sent_bytes += readers * len(data)
        self._line.put_bytes(key, data)

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Within the block other ranks are waited for: where it fails because one is gone, that is said."""
        self._calling = True
        try:
            yield
        except RuntimeError as error:
            if (verdict := self.explained(error)) is error:
                raise
            self._end(self._said)
            raise verdict from error
        finally:
            self._calling = False

    def explained(self, error: RuntimeError) -> Exception:
        """What is to be said of an operation that failed: that a rank is gone, or the error as it is."""
        if isinstance(error, EasyVideoError):
            return error
        self._failing = time.monotonic()
        limit = self._failing + _WORDS_SECONDS + self._late
        while self._verdict is None and time.monotonic() < limit:
            time.sleep(_LOOK_SECONDS / 4)
        self._failing = None  # no rank is gone: silence counts as before
        return self._verdict or error

    @property
    def shared_group(self) -> Any:
        """The placement group of Ray in which engines share GPUs or CPUs with the ranks; ``None`` where they do not."""
        if not isinstance(self._started, Actors):
            return None
        return self._started.group if self._engine_share or self._started.on_cpu else None

    @property
    def condemned(self) -> bool:
        """Whether the run ends because of another rank."""
        return self._verdict is not None

    @property
    def _late(self) -> float:
        """Seconds that may pass until it is known that a rank has ended."""
        return _REMOTE_SECONDS if self._started is None else self._started.late

    def _begin(self, line: Line) -> None:
        """Give signs of life, and look for those of the others."""
        self._beats = Beats(line.beside(), 0, self.phase)
        self._beats.start()
        threading.Thread(target=self._watch, args=(line.beside(),), daemon=True).start()

    def _await(self, key: str) -> None:
        assert self._line is not None
        for rank in range(1, self.cluster.ranks):
            self._line.wait(f"{key}/{rank}", self._check)

    def _check(self) -> None:
        if self._verdict is not None:
            self._end(self._said)
            raise self._verdict

    def _end(self, how: threading.Event) -> None:
        """From here on the run ends by itself, as ``how`` says, and is not interrupted."""
        with self._ending:
            how.set()

    # -- the thread that watches

    def _watch(self, line: Line) -> None:
        heard = {rank: (0, time.monotonic()) for rank in range(1, self.cluster.ranks)}
        with suppress(RuntimeError):  # the store is gone: so is the run, or all that it could say
            while not self._closed.wait(_LOOK_SECONDS):
                beats = {rank: line.get(f"beat/{rank}") for rank in heard}
                verdict = self._ended(line, beats) or self._silent(beats, heard) or self._stalled(beats)
                if verdict is not None:
                    self._condemn(line, verdict)
                    return

    def _ended(self, line: Line, beats: dict[int, Beat | None]) -> EasyVideoError | None:
        """What a rank says that failed, or that one has gone without a word, which makes others fail."""
        # In this order: a rank says what its fault is before it ends.
        gone = [] if self._started is None else self._started.ended()
        faults: dict[int, RankFault] = {rank: fault for rank in beats if (fault := line.get(f"fault/{rank}"))}
        order = sorted(faults, key=lambda rank: (faults[rank].kind is None, faults[rank].at))
        ended = [rank for rank in gone if rank not in faults]
        if self._closed.is_set() or not (order or ended):
            return None
        if order and (kind := faults[order[0]].kind) is not None:
            with suppress(TypeError):  # an error that is made of more than its words
                return kind(f"rank {order[0]}: {faults[order[0]].words}")
        if ended:
            assert self._started is not None
            return RankLost(
                f"rank {ended[0]} ended while it {_doing(beats[ended[0]])}: {self._started.how(ended[0])}; "
                f"{self._restart.remedy}{self._last_words(ended[0])}"
            )
        rank = order[0]
        if self._fault_seen is None:
            self._fault_seen = time.monotonic()
        if self._started is not None and time.monotonic() - self._fault_seen < self._started.late:
            return None  # another rank that has ended may be what made it fail
        if self._started is None or not self._started.shows_output:  # else it is among the rank's last lines
            print(faults[rank].trace, file=sys.stderr, flush=True)
        return RankError(
            f"rank {rank} failed while it {_doing(beats[rank])}: {faults[rank].words}{self._last_words(rank)}"
        )

    def _silent(self, beats: dict[int, Beat | None], heard: dict[int, tuple[int, float]]) -> EasyVideoError | None:
        """A rank that gives no sign of life although it once did: its machine is gone, or it is stopped."""
        for rank, beat in beats.items():
            number, at = heard[rank]
            if beat is None:
                continue
            if beat.number != number:
                heard[rank] = (beat.number, time.monotonic())
            elif time.monotonic() - at > (limit := SILENT_SECONDS if self._failing is None else _FAILED_SECONDS):
                return RankLost(
                    f"rank {rank} has been silent for {limit:g} s; it {_doing(beat)} when last heard of; "
                    f"{self._restart.remedy}{self._last_words(rank)}"
                )
        return None

    def _stalled(self, beats: dict[int, Beat | None]) -> EasyVideoError | None:
        """The rank that the others wait for, once none has done anything for the time of ``cluster.deadline``."""
        own = Beat(0, self.phase.words, self.phase.marks, self.phase.alone, self.phase.seconds)
        known = {0: own} | {rank: beat for rank, beat in beats.items() if beat is not None}
        waited = min(beat.seconds for beat in known.values())
        if not (self._calling and self.cluster.deadline and waited > self.cluster.deadline):
            return None
        rank = min(known, key=lambda rank: (not known[rank].alone, known[rank].marks))
        return RankLost(
            f"no rank has done anything for {waited:.0f} s (cluster.deadline is {self.cluster.deadline:g}): they wait "
            f"for rank {rank}, which {_doing(known[rank])}; {self._restart.remedy}{self._last_words(rank)}"
        )

    def _last_words(self, rank: int) -> str:
        return self._started.last_words(rank) if self._started is not None and rank else ""

    def _condemn(self, line: Line, verdict: EasyVideoError) -> None:
        """End the ranks, and then the run."""
        self._verdict = verdict
        with suppress(RuntimeError):
            line.put("verdict", str(verdict))  # ranks of a launcher end themselves
        if self._started is not None:
            self._started.kill()
        with self._ending:
            ends = self._calling or self._said.is_set() or self._closed.is_set()
            if not ends and self._thread is threading.main_thread():
                self._interrupted = interrupt_main()  # it may generate, or wait for scores, for a long time yet
        if self._ends_by_itself():
            return
        try:
            print(f"error: {verdict}", file=sys.stderr, flush=True)
            if isinstance(verdict, RankLost) and self._restart.left:
                self._restart.begin(str(verdict))
        finally:  # also where nobody reads the words any more, or the program cannot begin again
            os._exit(StoppedError.exit_status)

    def _ends_by_itself(self) -> bool:
        """Wait until the run has said what ends it; ``False`` if it is stuck: with a dead rank, or anywhere else."""
        limit, stuck = time.monotonic() + _UNWIND_SECONDS, time.monotonic() + _GRACE_SECONDS
        while not self._said.wait(_LOOK_SECONDS) and not self._closed.is_set():
            now = time.monotonic()
            if not self._calling:
                stuck = now + _GRACE_SECONDS
            if now > min(stuck, limit):
                return False
        return True

    def _close(self, *, failed: bool) -> None:
        if self._line is not None and self._verdict is None:
            with suppress(RuntimeError):
                if failed:
                    self._line.put("verdict", "the run has failed")
                else:
                    self._say_bye(self._line)
        if self._started is not None:
            if not failed:
                self._started.wait()
            self._started.kill()
        if self._beats is not None:
            self._beats.stop()
        if self._opened and dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()

    def _say_bye(self, line: Line) -> None:
        if self._opened:
            line.put(f"call/{self._number}", Bye())
        else:
            line.put("opening", Bye())
        limit = time.monotonic() + _BYE_SECONDS
        for rank in range(1, self.cluster.ranks):
            while line.get(f"bye/{rank}") is None and time.monotonic() < limit:
                time.sleep(_LOOK_SECONDS / 10)


def _doing(beat: Beat | None) -> str:
    return "starts" if beat is None else beat.words
