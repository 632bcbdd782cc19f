"""Open everything that a server needs, run it until a signal comes, and close everything."""

from __future__ import annotations

import asyncio
import copy
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from easyvideor1.config import RunConfig
from easyvideor1.serving.address import address_error, bound_socket, is_loopback
from easyvideor1.serving.app import build_app
from easyvideor1.serving.components import AnsweringComponents
from easyvideor1.serving.engine_thread import EngineThread
from easyvideor1.serving.preparation import Preparation
from easyvideor1.serving.request_media import MediaLimits
from easyvideor1.serving.service import ServerLimits, Service
from easyvideor1.types import ConfigError

#: Seconds that connections and the engine are waited for once nothing is under way any more.
_CLOSING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where a server listens, who may ask, and what it takes.

    ``key`` is needed where ``host`` is not of this machine alone. ``roots`` are the directories that paths of requests
    may lie in. ``grace`` are the seconds that requests under way are given when the server ends.
    """

    name: str
    host: str = "127.0.0.1"
    port: int = 8000
    key: str = field(default="", repr=False)
    roots: tuple[Path, ...] = ()
    limits: ServerLimits = field(default_factory=ServerLimits)
    media: MediaLimits = field(default_factory=MediaLimits)
    grace: float = 30.0

    def __post_init__(self) -> None:
        key = self.key.strip()  # a header loses white space at its ends, such as the line break of a file with the key
        if self.key and not key:
            raise ConfigError("the API key is blank: set EVR1_API_KEY or --api-key to a key, or leave them out")
        object.__setattr__(self, "key", key)
        if not self.key and not is_loopback(self.host):
            raise ConfigError(
                f"--host {self.host} can be reached from other machines: set an API key in the environment variable "
                "EVR1_API_KEY or with --api-key, or leave --host out"
            )
        for root in self.roots:
            if not root.is_dir():
                raise ConfigError(f"--media-root {root} is not a directory; name one that holds videos")


def serve(
    config: RunConfig, checkpoint: Path, options: ServerOptions, scratch: Path, say: Callable[[str], None]
) -> bool:
    """Serve a checkpoint until SIGTERM or SIGINT comes.

    Args:
        config: of engine, prompts and media.
        checkpoint: the model.
        options: of the server.
        scratch: a temporary directory for uploads.
        say: tells what happens, in lines.

    Returns:
        Whether the engine was closed. If it gave no control back, a thread of it is still there.

    Raises:
        ConfigError: the address cannot be used, or model and engine cannot be opened.
    """
    with closing(bound_socket(options.host, options.port)) as listener, _exits_on_sigterm():
        say(f"loading {checkpoint}")
        with open_service(config, checkpoint, options, scratch) as service:
            host, port = listener.getsockname()[:2]
            place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            ready = f"serving {options.name} at http://{place}/v1 (Ctrl-C ends it)"
            asyncio.run(_run(service, listener, options.grace, lambda: say(ready)))
    closed = not service.engine.alive
    say("the server has ended" if closed else "the server has ended; its engine was still computing")
    return closed


@contextmanager
def open_service(config: RunConfig, checkpoint: Path, options: ServerOptions, scratch: Path) -> Iterator[Service]:
    """Model, engine and media of a server; see ``serve`` for the arguments.

    Raises:
        ConfigError: model and engine cannot be opened.
    """
    with AnsweringComponents.of(config, checkpoint, scratch, options.media.seconds) as components:
        prepare = Preparation(components, options.name, options.roots, options.media)
        engine = EngineThread(components.open_engine(), threads=config.threads)
        try:
            yield Service(
                options.name,
                copy.deepcopy(components.family),
                engine,
                prepare,
                scratch,
                options.limits,
                options.key,
                options.host,
            )
        finally:
            engine.close(_CLOSING_SECONDS)


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again after it has ended, and the exit status would not be 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _exits_on_sigterm() -> Iterator[None]:
    """While the model is loaded, SIGTERM ends the process as Ctrl-C does, with everything closed."""

    def leave(number: int, frame: Any) -> None:
        sys.exit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _run(service: Service, listener: socket.socket, grace: float, ready: Callable[[], None]) -> None:
    """Serve until a signal comes, and what is under way has ended or was given up."""
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(service.limits.requests, thread_name_prefix="prepare")
    server = _Server(server_config(service, threads))
    ending: set[asyncio.Task[None]] = set()

    async def end() -> None:
        await service.drain(grace)
        server.should_exit = True

    def stop() -> None:
        if service.draining:  # the second signal: at once
            service.abort()
            server.force_exit = server.should_exit = True
        else:
            service.draining = True
            ending.add(loop.create_task(end()))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    host, port = listener.getsockname()[:2]
    try:
        listener.listen(1024)
        ready()
        await server.serve(sockets=[listener])
    except OSError as error:
        raise address_error(host, port, error) from error
    finally:
        # Threads that still decode end with the processes that decode for them.
        threads.shutdown(wait=False, cancel_futures=True)


def server_config(service: Service, threads: ThreadPoolExecutor) -> uvicorn.Config:
    """How uvicorn runs the application; it logs nothing by itself."""
    return uvicorn.Config(
        build_app(service, threads),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(_CLOSING_SECONDS),
    )
