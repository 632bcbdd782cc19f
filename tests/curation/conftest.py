"""The world and the working directory of the tests of training, for those of curation."""

from training.conftest import place, world

__all__ = ["place", "world"]
