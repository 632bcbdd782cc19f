"""Every page in a real browser: light and dark, wide and narrow, by keyboard, with broken files, while a run grows."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from easyvideor1.config import write_config
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.static_site import write_site
from evaluation.runs import HOSTILE, write_run

from .browsing import OVERFLOW, watched

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> Path:
    """A run whose names, responses, reasons and files are full of markup."""
    run = write_run(tmp_path_factory.mktemp("hostile") / "run")
    warning = {"step": 4, "alarm": HOSTILE, "now": 0.9, "before": 0.1, "message": HOSTILE}
    warning["examples"] = [{"response": HOSTILE, "sample": "t0", "task": HOSTILE, "reference": HOSTILE}]
    (run / "stages" / "02-grpo" / "canary.jsonl").write_text(json.dumps(warning) + "\n")
    return run


@pytest.fixture(scope="module")
def rows(world, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("data")
    made = world.read()[:6]
    made += [{**made[0], "problem_id": "gone", "videos": [str(place / "gone.mp4")], "problem": f"<video>{HOSTILE}"}]
    (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    values = {"data__train": [{"path": str(place / "rows.jsonl")}], "data__validation": [], "data__test": []}
    write_config(world.config(**values, rewards={}), place / "config.yaml")
    return place / "config.yaml"


@pytest.fixture(scope="module")
def site(serving, run, evaluated, hostile, rows):
    with serving(Library([run, evaluated, hostile]), [rows]) as address:
        yield address


def kind_of(link: str) -> str:
    """Pages of one kind: a few of each are enough to look at."""
    parts = urlsplit(link)
    path = re.sub(r"--[0-9a-f]{10}(?=\.html$)", "?", parts.path)  # the query, in the name of a file
    return re.sub(r"(?<=/)\d+(?=/|\.html|$)", "N", path) + ("?" if parts.query else "")


def walk(one, start: str, most: int = 1) -> list[str]:
    """Pages that can be reached from an address by links, at most so many of a kind."""
    waiting, counts, found = deque([start]), {}, []
    seen = {start}
    while waiting:
        address = waiting.popleft()
        kind = kind_of(address)
        counts[kind] = counts.get(kind, 0) + 1
        if counts[kind] > most:
            continue
        answer = one.go(address)
        assert answer is None or answer.status < 400, f"{address}: {answer.status}"
        assert one.page.locator("h1").count() == 1, address
        assert one.page.evaluate(OVERFLOW) <= 0, f"{address} is wider than the window"
        assert one.errors == [], f"{address}: {one.errors}"
        found.append(address)
        for link in one.links():
            if link not in seen and urlsplit(link).netloc == urlsplit(start).netloc:
                seen.add(link)
                waiting.append(link)
    return found


@pytest.mark.parametrize("look", ["light", "dark and narrow"])
def test_every_page(browser, site, look):
    with watched(browser, dark="dark" in look, narrow="narrow" in look) as one:
        found = walk(one, f"{site}/")
        assert one.leaving(site) == []
    kinds = {kind_of(address).removeprefix(site) for address in found}
    assert {"/runs/small/time", "/runs/small/health", "/runs/run/health", "/evaluations", "/data/config.yaml-1"} <= {
        urlsplit(address).path for address in found
    }
    assert len(kinds) >= 20


def test_markup_of_a_model_does_not_run(browser, site):
    with watched(browser) as one:
        for part in ("", "/time", "/health", "/settings", "/evaluations"):
            one.go(f"{site}/runs/run{part}")
        assert HOSTILE in one.page.inner_text("h1")  # shown as text
        one.go(f"{site}/evaluations/compare?a=run:run//before&b=run:run//after")
        one.page.click("a.questionrow")
        one.page.wait_for_selector("article.q")
        assert HOSTILE in one.page.inner_text("article.q")
        assert one.errors == [] and one.leaving(site) == []


def test_a_warning_leads_to_its_group(browser, site):
    with watched(browser) as one:
        one.go(f"{site}/runs/run/health")
        one.page.click("article .parsed a")
        one.page.wait_for_url("**/rollouts/run/02-grpo/4/*")
        assert "clip 0" in one.page.inner_text("main")


def test_runs_are_compared_by_keyboard_alone(browser, site):
    with watched(browser) as one:
        one.go(f"{site}/runs")
        keyboard = one.page.keyboard
        keyboard.press("Tab")
        assert one.page.evaluate("document.activeElement.className") == "skip"
        keyboard.press("Enter")
        marked = 0
        for _ in range(40):
            keyboard.press("Tab")
            if one.page.evaluate("document.activeElement.type") == "checkbox":
                keyboard.press("Space")
                marked += 1
            if marked == 2:
                break
        keyboard.press("Enter")
        one.page.wait_for_url("**/runs/compare?run=*")
        assert "2 runs" in one.page.inner_text("h1") and "What differs" in one.page.inner_text("main")
        chart = one.page.locator("svg[data-axes]").first
        chart.focus()
        keyboard.press("ArrowRight")
        first = one.page.inner_text(".tip")
        keyboard.press("ArrowRight")
        assert first.startswith("step ") and one.page.inner_text(".tip") != first
        keyboard.press("Escape")
        assert one.page.locator(".tip").count() == 0


def test_values_under_the_pointer(browser, site):
    with watched(browser) as one:
        one.go(f"{site}/runs/run")
        one.page.locator("svg[data-axes]").first.hover()
        told = one.page.inner_text(".tip")
        assert "step" in told and "total" in told and "accuracy" in told
        box = one.page.locator(".tip").bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1280


def test_pages_are_complete_without_a_script(browser, site):
    with watched(browser, script=False) as one:
        one.go(f"{site}/runs/small")
        assert one.page.locator("figure.chart svg").count() > 8
        one.go(f"{site}/runs")
        boxes = one.page.locator("input[type=checkbox]")
        boxes.nth(0).check()
        boxes.nth(1).check()
        one.page.click("button.primary")
        assert "2 runs" in one.page.inner_text("h1")


def test_the_theme_can_be_chosen(browser, site):
    with watched(browser) as one:
        one.go(f"{site}/runs")
        colour = "getComputedStyle(document.body).backgroundColor"
        light = one.page.evaluate(colour)
        one.page.click("#theme")
        dark = one.page.evaluate(colour)
        one.go(f"{site}/evaluations")
        assert one.page.evaluate(colour) == dark != light


def grow(run: Path) -> None:
    metrics = run / "stages" / "02-grpo" / "metrics.jsonl"
    last = json.loads(metrics.read_text().splitlines()[-1])
    with metrics.open("a") as file:
        file.write(json.dumps({**last, "step": last["step"] + 1}) + "\n")


def test_a_page_follows_a_run_that_grows(browser, serving, copied):
    run = copied("growing")
    with serving(Library([run])) as address, watched(browser) as one:
        one.page.set_viewport_size({"width": 1280, "height": 400})
        one.go(f"{address}/runs/growing")
        one.page.click("details#more summary")
        one.page.evaluate("scrollTo(0, 500)")
        assert "steps 7" in one.page.inner_text(".facts")
        grow(run)
        one.page.locator(".facts", has_text="steps 8").wait_for()
        assert one.page.evaluate("scrollY") == 500 and one.page.locator("details#more[open]").count() == 1
        # Nothing is asked while the tab is hidden.
        one.page.evaluate(
            "Object.defineProperty(document, 'hidden', { get: () => true, configurable: true });"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        one.requests.clear()
        grow(run)
        one.page.wait_for_timeout(2600)
        assert one.requests == []
        one.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        one.page.locator(".facts", has_text="steps 9").wait_for()
        assert one.errors == [] and one.leaving(address) == []


def test_marks_and_focus_stay_when_the_list_of_runs_grows(browser, serving, copied):
    run = copied("one")
    copied("two")
    with serving(Library([run.parent])) as address, watched(browser) as one:
        one.go(f"{address}/runs")
        one.page.locator("input[type=checkbox]").nth(1).check()
        one.page.locator("input[type=checkbox]").nth(1).focus()
        grow(run)
        one.page.locator("table", has_text="8 of 7").wait_for()
        assert one.page.locator("input:checked").count() == 1
        assert one.page.evaluate("document.activeElement.value") == "two"


def test_broken_files_are_named_and_break_no_page(browser, serving, copied):
    runs = {name: copied(name) for name in ("config", "status", "metrics", "evaluation", "empty", "trace", "binary")}
    (runs["config"] / "config.yaml").write_text("stages: [")
    (runs["status"] / "run.json").write_bytes(b"\xff{")
    metrics = runs["metrics"] / "stages" / "02-grpo" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:200] + b"\x00\xff\n{}\n[1]\n")
    whole = runs["evaluation"] / "evaluations" / "before.json"
    whole.write_bytes(whole.read_bytes()[:90])
    shutil.rmtree(runs["empty"] / "stages")
    (runs["trace"] / "stages" / "02-grpo" / "trace.json").write_text('{"traceEvents": [{"ph": "X"}]}')
    (runs["binary"] / "stages" / "02-grpo" / "timings.jsonl").write_bytes(bytes(range(256)))
    with serving(Library([runs["config"].parent])) as address, watched(browser) as one:
        one.go(f"{address}/runs")
        assert one.page.locator("tbody tr").count() == len(runs)
        assert one.page.locator(".state.damaged").count() >= 4
        for name in runs:
            for part in ("", "/time", "/health", "/evaluations", "/settings"):
                answer = one.go(f"{address}/runs/{name}{part}")
                assert answer.status == 200, f"{name}{part}: {one.page.inner_text('main')}"
        one.go(f"{address}/runs/metrics/health")
        one.page.wait_for_selector("text=metrics.jsonl")
        assert one.errors == []


def test_progress_of_data_is_shown_by_itself(browser, serving, run, rows):
    with serving(Library([run]), [rows]) as address, watched(browser) as one:
        one.go(f"{address}/data/config.yaml-1")
        begun = time.monotonic()
        other = one.page.context.new_page()
        other.goto(f"{address}/runs")  # is not held up
        assert time.monotonic() - begun < 10
        one.page.wait_for_selector("text=Tokens of a prompt", timeout=60_000)
        one.page.wait_for_selector(".meter", state="detached", timeout=60_000)
        assert "gone.mp4" in one.page.inner_text("main") and one.errors == []


def test_a_folder_opens_from_disk(browser, run, evaluated, hostile, rows, tmp_path):
    out = tmp_path / "site"
    places = Library([run, evaluated, hostile])
    with ThreadPoolExecutor(1) as pool:  # the browser has an event loop in this thread
        written = pool.submit(lambda: write_site(places, out, data=[rows], steps=[40])).result()
    assert not written.faults and (out / "rollouts/run/02-grpo/40").is_dir()
    assert not (out / "rollouts/run/02-grpo/41").exists()
    start = (out / "index.html").as_uri()
    with watched(browser) as one:
        found = walk(one, start)
        assert len(found) >= 20 and all(url.startswith(("file:", "data:")) for url in one.requests)
        one.go((out / "runs" / "small.html").as_uri())
        one.page.locator("svg[data-axes]").first.hover()
        assert "step" in one.page.inner_text(".tip")
        compared = next(out.glob("evaluations/compare--*.html"))
        one.go(compared.as_uri())
        rows_before = one.page.locator("a.questionrow:visible").count()
        one.page.fill("input[data-filter]", "no such words at all")
        assert rows_before > 0 and one.page.locator("a.questionrow:visible").count() == 0
        one.page.click("#theme")
        one.go((out / "rollouts" / "small.html").as_uri())
        one.page.click("li.row a")
        one.page.wait_for_selector(".shot img")
        assert one.page.evaluate("document.querySelector('.shot img').naturalWidth") > 0  # a frame, from disk
        one.page.click(".shot")
        one.page.wait_for_function("() => document.querySelector('dialog img').naturalWidth > 0")
        assert one.errors == []
