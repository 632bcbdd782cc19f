"""The list of rollouts in a real browser: search, filters, a window of rows, keys, and a run that grows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from easyvideor1.viewer.library import Library
from easyvideor1.viewer.rollout_index import RolloutIndex

from .browsing import watched
from .runs import group, said, write_run, write_step

pytestmark = pytest.mark.model
TOTAL = "document.getElementById('total').textContent"
STEPS, GROUPS = 5, 60


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "easyvideor1" / "viewer"


@pytest.fixture
def run(tmp_path) -> Path:
    """Three hundred groups; every tenth is of another task."""
    made = write_run(tmp_path / "long", steps=0)
    for step in range(1, STEPS + 1):
        write_step(made, step, [one(step, number) for number in range(GROUPS)])
    return made


def one(step: int, number: int):
    task = "boolean" if number % 10 == 0 else "multiple_choice"
    words = said("a rare kaleidoscope", 0.3) if (step, number) == (1, 7) else said("plain", 1.0)
    return group(1000 * step + number, [words, said("other", 0.0)], task=task)


@pytest.fixture
def listed(browser, serving, run, cache):
    """The list of an index that is complete."""
    RolloutIndex(run.resolve(), cache).fill()
    with serving(Library([run])) as address, watched(browser) as page:
        page.go(f"{address}/rollouts/long")
        yield page


def wait(page, what: str) -> None:
    """Until an expression holds. The policy of the pages forbids to evaluate it inside of them."""
    limit = time.monotonic() + 10
    while not page.page.evaluate(what):
        assert time.monotonic() < limit, f"{what}; {page.errors}"
        page.page.wait_for_timeout(20)


def test_search_filters_keys_and_errors(listed):
    page = listed.page
    assert page.inner_text("#total") == str(STEPS * GROUPS)
    page.fill("input[name=text]", "kaleidoscope")
    wait(listed, f"{TOTAL} === '1'")
    assert "sample-1007" in page.inner_text("#rows") and "text=kaleidoscope" in page.url
    page.fill("input[name=text]", "")
    page.select_option("select[name=task]", "boolean")
    wait(listed, f"{TOTAL} === '30'")
    page.locator("#rows a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert "sample-5010" in page.evaluate("document.activeElement.textContent")
    page.fill("input[name=first]", "1.5")
    wait(listed, "!document.getElementById('wrong').hidden")
    assert page.inner_text("#wrong").startswith("First step: ")
    page.fill("input[name=first]", "5")
    wait(listed, f"{TOTAL} === '6'")
    assert page.locator("#wrong").is_hidden() and listed.errors == []
    page.keyboard.press("Enter")
    page.click("#rows a >> nth=0")
    page.wait_for_selector(".reply")
    page.keyboard.press("j")
    page.wait_for_url("**/5/10?*")
    page.keyboard.press("u")
    page.wait_for_url("**/rollouts/long?task=boolean&first=5")


def test_a_jump_shows_the_rows_of_its_place(listed):
    page = listed.page
    for share in (0.5, 0.1, 0.999):
        page.evaluate("(share) => scrollTo(0, document.body.scrollHeight * share)", share)
        wait(
            listed,
            "(() => { const box = document.getElementById('rows').getBoundingClientRect(),"
            " all = document.getElementById('list').getBoundingClientRect();"
            " return box.top <= Math.max(60, all.top + 1) && box.bottom >= Math.min(innerHeight, all.bottom) - 1; })()",
        )
    assert "sample-1059" in page.inner_text("#rows")


def test_scrolling_while_a_filter_loads_keeps_the_filter(listed):
    page = listed.page

    def slowly(route):
        page.wait_for_timeout(300)
        route.continue_()

    page.route("**/rows?*", slowly)
    page.evaluate(
        "() => { const form = document.getElementById('filter'); form.elements.task.value = 'boolean';"
        " form.dispatchEvent(new Event('change', { bubbles: true }));"
        " scrollTo(0, document.body.scrollHeight * 0.8); }"
    )
    wait(listed, f"{TOTAL} === '30'")
    page.wait_for_timeout(700)
    assert page.inner_text("#total") == "30"
    assert "multiple choice" not in page.inner_text("#rows")


def test_the_list_follows_a_run_that_begins(browser, serving, tmp_path):
    run = write_run(tmp_path / "begun", steps=0)
    with serving(Library([run])) as address, watched(browser) as page:
        page.go(f"{address}/rollouts/begun")
        assert page.page.locator("select[name=task] option").count() == 1
        write_step(run, 1, [group(1), group(2, task="boolean")])
        damaged = write_step(run, 2, [group(3), group(4)])
        damaged.write_bytes(damaged.read_bytes()[:-40])
        wait(page, f"{TOTAL} === '3'")
        wait(page, "document.querySelectorAll('select[name=task] option').length === 3")
        assert page.page.get_attribute("input[name=last]", "placeholder") == "2"
        assert "1 damaged file" in page.page.inner_text("#damage")
        assert page.page.locator("#nothing").is_hidden() and page.errors == []


def test_nothing_is_asked_in_a_hidden_tab_and_all_is_caught_up_after(browser, serving, run, cache):
    RolloutIndex(run.resolve(), cache).fill()
    hide = (
        "(hidden) => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    with serving(Library([run])) as address, watched(browser) as page:
        page.go(f"{address}/rollouts/long")
        page.page.evaluate(hide, True)
        write_step(run, STEPS + 1, [group(1)])
        before = len(page.requests)
        page.page.wait_for_timeout(5000)
        assert len(page.requests) == before
        page.page.evaluate(hide, False)
        wait(page, f"{TOTAL} === '{STEPS * GROUPS + 1}'")
