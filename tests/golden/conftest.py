"""The end of a test run says how golden files were compared."""

from __future__ import annotations

import pytest

#: Property of a test report; reports also travel from the processes of a parallel run.
COMPARED = "golden"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = [value for report in reports for name, value in report.user_properties if name == COMPARED]
    if lines:
        terminalreporter.section("golden files", sep="-")
        for line in lines:
            terminalreporter.write_line(str(line))
