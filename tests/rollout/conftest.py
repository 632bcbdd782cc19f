"""The model whose output head can be pushed, from the tests of engines."""

from engines.conftest import pushed

__all__ = ["pushed"]
