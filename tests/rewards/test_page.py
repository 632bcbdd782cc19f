"""The tables of docs/rewards.md are those that the code makes."""

from __future__ import annotations

import pytest
from benchmarks.reward_corpus import by_task, toyworld_samples
from benchmarks.rewards_page import PAGE, TABLES, constant_line, filled

from easyvideor1.rewards.profiles import DIFFERENCES
from easyvideor1.tasks import TASKS

ADVICE = "run: python -m benchmarks.rewards_page"


@pytest.mark.parametrize("name", [name for name in TABLES if name != "constants"])
def test_a_table_is_up_to_date(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"<!-- table: {name} -->" in page
    assert filled(page, {name}) == page, ADVICE


@pytest.mark.parametrize("task", ["boolean", "multiple_choice", "temporal_grounding", "preference"])
def test_a_constant_earns_what_the_page_says(task: str) -> None:
    line = constant_line(task, by_task(toyworld_samples())[task])
    assert line in PAGE.read_text(encoding="utf-8").splitlines(), ADVICE


@pytest.mark.slow
def test_all_constants_earn_what_the_page_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page, {"constants"}) == page, ADVICE


def test_the_tables_hold_every_type_and_every_difference() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ("types", "prompts", "answers", "certificates", "constants"):
        table = page.partition(f"<!-- table: {name} -->")[2].partition("<!-- end -->")[0]
        for task in TASKS:
            assert f"| `{task}` |" in table, f"{name}: {task}"
    for one in DIFFERENCES:
        assert f"| {one.cause} |" in page
