"""A rank that follows: it opens its part of the policy, and does what the first rank calls."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from easyvideor1.config import ModelConfig
from easyvideor1.families.family import chosen_device
from easyvideor1.families.features import FeatureCache
from easyvideor1.policy.phase import Phase
from easyvideor1.policy.sharded import ShardedPolicy
from easyvideor1.policy.sharding import RankPlace
from easyvideor1.seeds import derive_seed
from easyvideor1.training.ranks.line import Line
from easyvideor1.training.ranks.messages import Beat, Bye, Call, Opening, RankFault
from easyvideor1.training.ranks.wire import Receiver
from easyvideor1.types import ConfigError, EasyVideoError

#: Seconds between two signs of life.
BEAT_SECONDS = 0.5
#: Seconds without one, after which a rank is taken for dead. Native code may hold Python up for a while.
SILENT_SECONDS = 60.0
_WAITS = "waits for the first rank"


def main(host: str, port: int, rank: int, ranks: int) -> None:
    """The program of a rank that the run has started: ends when the run does, however that happens."""
    threading.Thread(target=_end_with_run, daemon=True).start()
    follow(Line(host, port), rank, ranks)


def follow(line: Line, rank: int, ranks: int, local_rank: int | None = None) -> None:
    """Serve the calls of the first rank until the run is over.

    Raises:
        EasyVideoError: a call failed here; the first rank is told first.
    """
    phase = Phase()
    phase.at(_WAITS)
    beats = Beats(line.beside(), rank, phase, leader=0)
    beats.start()
    policy = media = features = None
    try:
        opening = line.wait("opening")
        if isinstance(opening, Bye):
            beats.stop()
            line.put(f"bye/{rank}", True)
            return
        phase.at("opens its part of the policy", alone=True)
        opening.torch.apply()
        device = rank_device(opening.model, rank if local_rank is None else local_rank)
        line.put(f"here/{rank}", True)
        place = join(line, rank, ranks, opening, device)
        policy = ShardedPolicy.open_sharded(opening.model, opening.checkpoint, opening.stages, place)
        policy.phase = phase
        media = opening.open_media()
        line.put(f"ready/{rank}", True)
        number, receiver = 0, Receiver()
        while True:
            phase.at(_WAITS)
            call = line.wait(f"call/{number}")
            if isinstance(call, Bye):
                beats.stop()
                line.put(f"bye/{rank}", True)
                return
            if call.passes:
                share = line.wait(f"share/{number}/{place.group}", unpack=receiver.unpack)
                call = replace(call, arguments=share)
            phase.at(f"begins {call.method}")
            if call.cached_features and features is None:
                assert media.features is not None
                features = FeatureCache(policy.family, policy.model, media.features)
            found = perform(policy, call, rank, media.load, features if call.cached_features else None)
            line.put(f"result/{number}/{rank}", (found,))
            number += 1
    except BaseException as error:
        fault = error if isinstance(error, EasyVideoError) else None
        with suppress(Exception):  # the store may be gone, and then nobody asks
            kind = type(fault) if fault else None
            line.put(f"fault/{rank}", RankFault(time.time(), kind, str(error), traceback.format_exc()))
        raise
    finally:
        if media is not None:
            media.close()
        if dist.is_initialized():
            with suppress(RuntimeError):
                dist.destroy_process_group()


def perform(policy: ShardedPolicy, call: Call, rank: int, load: Any, features: FeatureCache | None) -> Any:
    """A call, on any rank; the tensors of a generator are gathered and not kept."""
    torch.manual_seed(derive_seed(call.seed, rank))
    options = dict(call.options)
    if call.passes:
        options |= {"load": load, "features": features}
    found = getattr(ShardedPolicy, call.method)(policy, *call.arguments, **options)
    if call.method == "weights":
        for _ in found:
            pass
        return None
    return found


def rank_device(config: ModelConfig, index: int) -> torch.device:
    """Where a rank computes: the CPU, or the GPU of this machine with its number.

    Raises:
        ConfigError: there are more ranks on this machine than GPUs.
    """
    device = chosen_device(config)
    if device.type != "cuda":
        return device
    if index >= torch.cuda.device_count():
        raise ConfigError(
            f"cluster.ranks asks for GPU {index} of this machine, and torch finds {torch.cuda.device_count()} GPUs; "
            "set cluster.ranks to their number, or start ranks on more machines with torchrun"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def join(line: Line, rank: int, ranks: int, opening: Opening, device: torch.device) -> RankPlace:
    """Meet the other ranks in a process group."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # By default NCCL's own watchdog aborts a process whose peer is gone, before its run can say so and begin again.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")
    # The first rank notices a stall, and says whose it is, before this ends it.
    timeout = timedelta(seconds=opening.deadline + 60) if opening.deadline else timedelta(days=30)
    dist.init_process_group(backend, store=line.group_store(), rank=rank, world_size=ranks, timeout=timeout)
    return RankPlace(rank, ranks, opening.shard_size or ranks, device, opening.sequence_parallel)


class Beats(threading.Thread):
    """Gives signs of life of a rank; with ``leader``, ends this process if there are none of that one any more."""

    def __init__(self, line: Line, rank: int, phase: Phase, leader: int | None = None) -> None:
        super().__init__(daemon=True)
        self._line, self._rank, self._phase, self._leader = line, rank, phase, leader
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Give no more."""
        self._stopped.set()

    def run(self) -> None:
        """See ``Thread``."""
        number, heard, last = 0, time.monotonic(), -1
        try:
            while not self._stopped.wait(BEAT_SECONDS if number else 0):
                number += 1
                phase = self._phase
                self._line.put(f"beat/{self._rank}", Beat(number, phase.words, phase.marks, phase.alone, phase.seconds))
                if self._leader is None:
                    continue
                if self._line.get("verdict") is not None:
                    _end("the first rank has ended the run")
                beat = self._line.get(f"beat/{self._leader}")
                if beat is not None and beat.number != last:
                    heard, last = time.monotonic(), beat.number
                elif last >= 0 and time.monotonic() - heard > SILENT_SECONDS:
                    _end(f"the first rank has been silent for {SILENT_SECONDS:g} s")
        except RuntimeError:  # the store is gone
            if self._leader is not None and not self._stopped.is_set():
                _end("the first rank is gone")


def _end_with_run() -> None:
    """The other end of stdin belongs to the run, and closes with it."""
    while os.read(0, 4096):  # not through sys.stdin, whose lock the interpreter would wait for at its end
        pass
    _end("the run is gone")


def _end(words: str) -> None:
    print(f"this rank ends: {words}", file=sys.stderr, flush=True)
    os._exit(1)
