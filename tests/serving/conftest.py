"""A toy world with its checkpoint, and servers over it."""

import pytest

from training.runs import World

from .servers import running


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="session")
def clip(world):
    """A real video."""
    return next((world.home / "world" / "media" / "test").glob("*.mp4"))


@pytest.fixture(scope="session")
def config(world):
    return world.config(
        stages=[], evaluation={}, rewards={}, data={"video": {"fps": 2.0, "max_frames": 8, "max_pixels": 4096}}
    )


@pytest.fixture(scope="session")
def server(world, config, tmp_path_factory):
    """The local engine."""
    scratch = tmp_path_factory.mktemp("scratch")
    with running(config, world.checkpoint, scratch, roots=(world.home / "world",)) as server:
        yield server
