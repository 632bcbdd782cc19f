"""At the end of a test run it is said how golden files were compared."""

from __future__ import annotations

import pytest

#: One line for each file that was compared.
COMPARED: pytest.StashKey[list[str]] = pytest.StashKey()


@pytest.fixture
def compared(pytestconfig: pytest.Config) -> list[str]:
    """Lines to be shown at the end."""
    return pytestconfig.stash.setdefault(COMPARED, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if lines := config.stash.get(COMPARED, []):
        terminalreporter.section("golden files", sep="-")
        for line in lines:
            terminalreporter.write_line(line)
