"""A real run, results, a served site and a real browser, each made once for all tests of the viewer."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tests.evaluation import results

from training.runs import OWN_PARTS, World, train

Serving = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="session")
def run(world: World) -> Path:
    """A finished run of two stages with evaluations. Read only."""
    place = world.home / "work"
    place.mkdir()
    (place / "own_parts.py").write_text(OWN_PARTS)
    before = Path.cwd()
    os.chdir(place)
    try:
        train(world.config(trace_steps=3))
    finally:
        os.chdir(before)
    return place / "runs" / "small"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Copies of the run that a test may damage, below ``tmp_path / "runs"``."""

    def copy(name: str) -> Path:
        return shutil.copytree(run, tmp_path / "runs" / name)

    return copy


@pytest.fixture(scope="session")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of two models and a probe on one benchmark. Read only."""
    out = tmp_path_factory.mktemp("results")
    before = [results.answered(n, "A" if n % 3 else "B") for n in range(24)]
    after = [results.answered(n, "A" if n % 4 else "", frames=16) for n in range(24)]
    blind = [results.answered(n, "AB"[n % 2]) for n in range(24)]
    results.write_result(out, results.certificate("small"), before)
    results.write_result(out, results.certificate("large", model={"weights": "w2", "dtype": "bfloat16"}), after)
    probed = results.certificate("small", benchmark="colours-blind", shown={"probe": "blind"})
    results.write_result(out, probed, blind)
    return out


@pytest.fixture(scope="session")
def serving() -> Serving:
    """``with serving(library, data=()) as address``: the site, served by a thread."""
    import uvicorn

    from easyvideor1.viewer.app import build_app

    @contextlib.contextmanager
    def serve(library, data=()) -> Iterator[str]:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            app = build_app(library, data=tuple(data))
            server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            limit = time.monotonic() + 20
            while not server.started and time.monotonic() < limit:
                time.sleep(0.01)
            assert server.started
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join(10)

    return serve


@pytest.fixture(scope="session")
def browser():
    """A real browser, headless; without Playwright or Chromium the test is skipped, and says so."""
    from easyvideor1.rewards.rendering.browser import find_chromium

    sync = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to test pages in a browser")
    flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync"]
    with sync.sync_playwright() as playwright:
        # Root in a container has no sandbox; the pages are our own.
        try:
            opened = playwright.chromium.launch(executable_path=path, args=flags, chromium_sandbox=os.geteuid() != 0)
        except sync.Error as error:
            pytest.skip(f"{path} does not start: {str(error).splitlines()[0]}")
        yield opened
        opened.close()
