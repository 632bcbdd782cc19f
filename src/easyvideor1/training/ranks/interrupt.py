"""How a thread that watches ends what the main thread waits for."""

from __future__ import annotations

import _thread
import signal
import threading


def interrupt_main() -> bool:
    """Raise ``KeyboardInterrupt`` in the main thread, as Ctrl-C does.

    Where the system has signals to threads, it also comes to one that waits for a lock, a future or another process.

    Returns:
        Whether it will come: not where Ctrl-C is ignored, or ends the process without Python.
    """
    if not callable(signal.getsignal(signal.SIGINT)):
        return False
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()
    return True
