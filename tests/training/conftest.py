"""One world and one finished run for all tests of training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .runs import OWN_PARTS, World, train


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="session")
def finished(world: World) -> Iterator[Path]:
    """The run directory of ``world.config()``, done without interruption. Read only."""
    place = world.home / "finished"
    place.mkdir()
    (place / "own_parts.py").write_text(OWN_PARTS)
    before = Path.cwd()
    os.chdir(place)
    try:
        train(world.config())
    finally:
        os.chdir(before)
    return place / "runs" / "small"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the user's own module in it."""
    (tmp_path / "own_parts.py").write_text(OWN_PARTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path
