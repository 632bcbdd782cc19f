"""Local engines in one other process, opened as often as tests want; a start of a process for each would take long.

Each engine has a loop (``engines.worker.serve``) in a thread of that process, and a number that its messages carry.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
import traceback
from functools import partial
from pathlib import Path

import torch

from easyvideor1.config import ModelConfig
from easyvideor1.engines.local import LocalEngine
from easyvideor1.engines.registry import inference_model
from easyvideor1.engines.worker import serve
from easyvideor1.engines.worker_engine import WorkerEngine
from easyvideor1.engines.worker_messages import Close, Opening, TorchSettings, WorkerMedia
from easyvideor1.engines.worker_pool import WorkerPool


class BiasedEngine(LocalEngine):
    """A local engine of a checkpoint, whose output head has a bias, too."""

    def __init__(self, family, checkpoint, load, *, batch_tokens, config):
        model = inference_model(family, checkpoint, config)
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(model.lm_head.out_features))
        super().__init__(family, model, load, batch_tokens=batch_tokens)
        self.takes_adapters = False


class NumberedPort:
    """A ``Port`` for one of several loops behind a connection."""

    def __init__(self, number, connection, lock) -> None:
        self._number = number
        self._connection = connection
        self._lock = lock
        self.incoming = queue.SimpleQueue()

    def send(self, message) -> None:
        with self._lock:
            self._connection.send((self._number, message))

    def receive(self, timeout):
        try:
            return self.incoming.get(timeout=timeout) if timeout != 0 else self.incoming.get_nowait()
        except queue.Empty:
            return None


def host(connection) -> None:
    """The program of the process: a loop for each new number."""
    ports, lock = {}, threading.Lock()

    def loop(port) -> None:
        try:
            serve(port)
            port.send("closed")
        except BaseException:
            port.send(traceback.format_exc())
            raise

    while True:
        try:
            number, message = connection.recv()
        except EOFError:
            return
        if number not in ports:
            ports[number] = NumberedPort(number, connection, lock)
            threading.Thread(target=loop, args=(ports[number],), daemon=True).start()
        ports[number].incoming.put(message)


class Host:
    """The process, started when first needed."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=host, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self._channels = {}
        threading.Thread(target=self._dispatch, daemon=True).start()

    def channel(self, on_message=lambda: None):
        number = len(self._channels)
        self._channels[number] = NumberedChannel(number, self._connection, on_message)
        return self._channels[number]

    def _dispatch(self) -> None:
        while True:
            try:
                number, message = self._connection.recv()
            except (EOFError, OSError):
                return
            self._channels[number].incoming.put(message)
            self._channels[number].on_message()


class NumberedChannel:
    """A ``Channel`` to one of the loops."""

    shares_memory = True

    def __init__(self, number, connection, on_message) -> None:
        self.on_message = on_message
        self._number = number
        self._connection = connection
        self._words = ""
        self.incoming = queue.SimpleQueue()

    def send(self, message) -> None:
        if not self._words:
            self._connection.send((self._number, message))

    def receive(self, timeout):
        if self._words:
            return None
        try:
            message = self.incoming.get(timeout=timeout) if timeout else self.incoming.get_nowait()
        except queue.Empty:
            return None
        if isinstance(message, str):
            self._words = message
            return None
        return message

    def alive(self):
        return not self._words

    def kill(self) -> None:
        self.send(Close())
        self._words = self._words or "killed"

    def last_words(self):
        return self._words


_HOSTS = {}


class HostedPool(WorkerPool):
    """Two workers, one in that process and one in another: models are not loaded side by side in one."""

    def _start_worker(self, number):
        self._channels[number] = hosted(self._bell.set, number)
        return self._channels[number]


def hosted(on_message=lambda: None, number=0):
    """A line to another loop in a process."""
    if number not in _HOSTS:
        _HOSTS[number] = Host()
    return _HOSTS[number].channel(on_message)


def open_worker_engine(family, model, load, *, batch_tokens):
    """A ``WorkerEngine`` with the weights of ``model``, whose head may have a bias and weights of its own."""
    return with_weights(WorkerEngine(opening_of(family, load, batch_tokens), hosted), model)


def open_worker_pool(family, model, load, *, batch_tokens):
    """The same with two workers."""
    return with_weights(HostedPool(opening_of(family, load, batch_tokens), workers=2), model)


def opening_of(family, load, batch_tokens):
    checkpoint = Path(family.tokenizer.name_or_path)
    kind = f"{BiasedEngine.__module__}:{BiasedEngine.__name__}"
    settings = TorchSettings.of_this_process()
    return Opening(kind, checkpoint, ModelConfig(), batch_tokens, partial(WorkerMedia, load), settings)


def with_weights(engine, model):
    weights = dict(model.named_parameters(remove_duplicate=False))
    weights.setdefault("lm_head.bias", torch.zeros(model.lm_head.out_features))
    engine.update_weights(0, weights.items())
    return engine
