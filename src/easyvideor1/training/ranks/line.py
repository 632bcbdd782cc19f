"""What ranks say to each other beside tensors: calls, results, signs of life, over a key-value store of torch.

The store is at the first rank, or at the launcher. Waiting for a call is not a collective operation, so it may last as
long as a rollout does, and ends at once when the others are gone.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from easyvideor1.training.ranks.wire import packed, unpacked

#: Bytes of one entry; the store takes up to 8 MiB.
_PIECE = 4 << 20
#: Seconds between two looks at an entry that is waited for, at first and at most.
_SHORTEST, _LONGEST = 0.0005, 0.02
_TIMEOUT = timedelta(seconds=60)


class Line:
    """One thread's connection to the store.

    Objects are pickled: ranks trust each other, as those of any group of ``torch.distributed`` do. Whoever reaches the
    store of a launcher could run code in them, so it belongs into a network of the cluster's own; that of ranks on one
    machine listens to this machine alone.
    """

    def __init__(self, host: str, port: int, *, serves: bool = False, prefix: str = "") -> None:
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        self.host, self.prefix = host, prefix
        if serves and port == 0:
            listening = socket.create_server((host, 0))
            self._store = TCPStore(
                host,
                listening.getsockname()[1],
                is_master=True,
                wait_for_workers=False,
                timeout=_TIMEOUT,
                master_listen_fd=listening.detach(),  # the store closes it
            )
        else:
            self._store = TCPStore(host, port, is_master=serves, wait_for_workers=False, timeout=_TIMEOUT)

    @property
    def port(self) -> int:
        """Where the store listens."""
        return int(self._store.port)

    def beside(self) -> Line:
        """Another connection, for another thread."""
        return Line(self.host, self.port, prefix=self.prefix)

    def group_store(self) -> Any:
        """A store in which a process group meets."""
        from torch.distributed import PrefixStore  # type: ignore[attr-defined]

        return PrefixStore(f"{self.prefix}group", self._store)

    def put(self, key: str, value: Any) -> None:
        """Write an object of any size."""
        self.put_bytes(key, packed(value))

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write what is packed already."""
        pieces = [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
        for number, piece in enumerate(pieces):
            self._store.set(f"{self.prefix}{key}/{number}", piece)  # type: ignore[arg-type]  # bytes are taken, too
        self._store.set(f"{self.prefix}{key}", str(len(pieces)))  # last: what has a number is whole

    def get(self, key: str, unpack: Callable[[bytes], Any] = unpacked) -> Any:
        """The object of a key, ``None`` if there is none yet."""
        if not self._store.check([f"{self.prefix}{key}"]):
            return None
        count = int(self._store.get(f"{self.prefix}{key}"))
        data = b"".join(self._store.get(f"{self.prefix}{key}/{number}") for number in range(count))
        return unpack(data)

    def wait(self, key: str, look: Callable[[], None] = lambda: None, unpack: Callable[[bytes], Any] = unpacked) -> Any:
        """The object of a key, once it is there; ``look`` is called meanwhile, and may raise."""
        pause = _SHORTEST
        while (found := self.get(key, unpack)) is None:
            look()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
        return found

    def drop(self, key: str) -> None:
        """Remove an object."""
        count = int(self._store.get(f"{self.prefix}{key}"))
        for number in range(count):
            self._store.delete_key(f"{self.prefix}{key}/{number}")
        self._store.delete_key(f"{self.prefix}{key}")
