"""Benchmark of ``evr1 view``: 100,000 rollouts in a real browser.

``python -m benchmarks.viewer [--rollouts N] [--work DIR]``. Records are written through ``write_trajectories``, ``evr1
view`` serves them, and headless Chromium looks at them. The table comes first; the last line is JSON:

- ``first_paint_s``: seconds until the browser has painted the list (first contentful paint), the larger of a first
  start without an index and a later one with it;
- ``filter_ms``: milliseconds from a change in the form until the browser has laid out and painted the new list, the
  worst of all filters (each the median of ``--repetitions``);
- ``rollouts``: how many there are;
- ``requests_leaving``: requests of the browser to any other place than the viewer, over the whole visit.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from benchmarks.measure import table
from easyvideor1.records.trajectories import SampleRecord, TrajectoryRecord
from easyvideor1.records.trajectory_files import write_trajectories
from easyvideor1.types import Score

CHROMIUM = "/usr/bin/chromium"
#: Chromium without what it would ask the network for by itself.
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
GROUP_SIZE, GROUPS_PER_STEP = 8, 64
TASKS = ("multiple_choice", "numerical", "boolean", "temporal_grounding", "open_ended")
SOURCES = ("perception.jsonl", "charades.jsonl", "physics.jsonl")
_WORDS = re.findall(
    r"\w+",
    "the a red blue green square circle person door camera moves left right up then stops before after while behind "
    "in front of slowly quickly first second frame video shows because therefore so it is not clear whether two three "
    "objects collide answer option span from until seconds count total see look wait check again colour shape",
)

#: Filters of the form: name -> {field: value}. Each is applied to the whole list, and taken away again.
FILTERS: dict[str, dict[str, Any]] = {
    "one task": {"task": "numerical"},
    "one source": {"source": "physics.jsonl"},
    "a range of steps": {"first": "20", "last": "60"},
    "a range of rewards": {"low": "0.3", "high": "0.6"},
    "flat groups": {"mark": "flat"},
    "cut off": {"mark": "cut"},
    "a rare word": {"text": "kaleidoscope"},
    "a word of every response": {"text": "answer"},
    "a phrase": {"text": '"red square"'},
    "largest spread first": {"order": "spread"},
    "every response": {"by": "response"},
    "responses, longest first": {"by": "response", "order": "length"},
    "responses with a word, best first": {"by": "response", "text": "collide", "order": "reward"},
}


def write_rollouts(run: Path, rollouts: int, seed: int = 0) -> None:
    """A run of one stage with so many responses, in groups of eight."""
    rng = np.random.default_rng(seed)
    stage = run / "stages" / "01-grpo"
    (stage / "rollouts").mkdir(parents=True)
    (run / "config.yaml").write_text("name: large\n", encoding="utf-8")
    (run / "run.json").write_text(json.dumps({"name": "large"}), encoding="utf-8")
    groups = rollouts // GROUP_SIZE
    for first in range(0, groups, GROUPS_PER_STEP):
        step = first // GROUPS_PER_STEP + 1
        records = [_group(rng, number, step) for number in range(first, min(groups, first + GROUPS_PER_STEP))]
        write_trajectories(stage / "rollouts" / f"step_{step:06d}.jsonl", records)


def _group(rng: np.random.Generator, number: int, step: int) -> SampleRecord:
    level = float(rng.beta(1.2, 1.2))
    task = TASKS[number % len(TASKS)]
    return SampleRecord(
        sample=f"{task}-{number:06d}",
        task=task,
        question=f"<video>What happens after the {_text(rng, 8)}?",
        answer="A",
        options=("A. it stops", "B. it goes on", "C. it turns", "D. it leaves"),
        prompt=f"user: {_text(rng, 60)}",
        prompt_tokens=int(rng.integers(200, 6000)),
        source=SOURCES[number % len(SOURCES)],
        modality="video",
        trajectories=tuple(_response(rng, level) for _ in range(GROUP_SIZE)),
        step=step,
    )


def _response(rng: np.random.Generator, level: float) -> TrajectoryRecord:
    right = float(rng.random() < level) if rng.random() < 0.7 else round(float(rng.random()), 3)
    cut = rng.random() < 0.05
    thought = _text(rng, int(rng.integers(60, 220)))
    rare = " kaleidoscope" if rng.random() < 0.001 else ""
    letter = "A" if right > 0.5 else "BCD"[int(rng.integers(3))]
    text = f"<think>{thought}{rare}</think><answer>{letter}</answer>" if not cut else f"<think>{thought}"
    total = 0.0 if cut else 0.9 * right + 0.1
    score = Score(
        right * (not cut), float(not cut), total, parsed="" if cut else letter, found="nothing" if cut else "tag"
    )
    return TrajectoryRecord(
        response=text,
        tokens=int(len(text) / 4),
        finish="length" if cut else "stop",
        score=score,
        logprob=-float(rng.gamma(20)),
        advantage=float(rng.normal()),
    )


def _text(rng: np.random.Generator, count: int) -> str:
    return " ".join(_WORDS[place] for place in rng.integers(0, len(_WORDS), count))


@dataclass
class Visit:
    """What a browser did and measured."""

    first_paint: dict[str, float] = field(default_factory=dict)
    filters: dict[str, list[float]] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)
    scrolls: list[float] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    asked: int = 0
    indexed: float = 0.0
    group: float = 0.0


@contextmanager
def viewer(run: Path, cache: Path) -> Iterator[str]:
    """The address of a viewer of one run, whose indices lie in ``cache``."""
    command = [sys.executable, "-m", "easyvideor1.cli", "view", str(run), "--port", "0"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"http://\S+", line)
            if address is None:
                raise SystemExit(line + process.stderr.read())
            yield address[0].rstrip("/")
        finally:
            process.terminate()


def visit(run: Path, cache: Path, repetitions: int) -> Visit:
    """Open the list without an index and with one, use every filter, scroll, and open a group."""
    from playwright.sync_api import sync_playwright

    seen = Visit()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        for start in ("without an index", "with an index"):
            with viewer(run, cache) as address:
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                page.on("request", lambda request: _note(seen, address, request.url))
                began = time.monotonic()
                page.goto(f"{address}/rollouts/{run.name}", wait_until="load")
                seen.first_paint[start] = page.evaluate(_PAINT) / 1000
                while not page.request.get(f"{address}/rollouts/{run.name}/progress").json()["done"]:
                    time.sleep(0.5)
                if not seen.indexed:
                    seen.indexed = time.monotonic() - began
                    page.close()
                    continue
                page.wait_for_selector("#rows .row")
                for name, fields in FILTERS.items():
                    seen.filters[name], seen.busy[name] = _filtered(page, fields, repetitions)
                seen.scrolls = [page.evaluate(_SCROLL, share) for share in (0.3, 0.9, 0.05, 0.6, 0.999)]
                began = time.monotonic()
                page.click("#rows .row a >> nth=3")
                page.wait_for_selector(".reply")
                seen.group = time.monotonic() - began
                page.close()
        browser.close()
    return seen


def _filtered(page: Any, fields: dict[str, Any], repetitions: int) -> tuple[list[float], float]:
    """Milliseconds of each repetition by the clock, and the mean of processor time, of viewer and browser together."""
    walls, busy = [], 0.0
    for _ in range(repetitions):
        page.evaluate(_CLEAR)
        before = _processor_seconds()
        walls.append(page.evaluate(_FILTER, fields))
        busy += _processor_seconds() - before
    return walls, 1000 * busy / repetitions


def _processor_seconds() -> float:
    """Processor time of all processes that this one has started, directly or not, as far as they still run."""
    parents: dict[int, int] = {}
    spent: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            parents[int(entry.name)] = int(state[1])
            spent[int(entry.name)] = int(state[11]) + int(state[12])
    mine = {os.getpid()}
    while more := {number for number, parent in parents.items() if parent in mine and number not in mine}:
        mine |= more
    return sum(spent[number] for number in mine - {os.getpid()}) / os.sysconf("SC_CLK_TCK")


def _note(seen: Visit, address: str, url: str) -> None:
    place = urlsplit(url)
    if place.scheme == "data":
        return  # part of the page
    seen.asked += 1
    if f"{place.scheme}://{place.netloc}" != address:
        seen.left.append(url)


#: Milliseconds from the start of the navigation to the first contentful paint.
_PAINT = """() => new Promise((done) => {
  const look = () => {
    const found = performance.getEntriesByName("first-contentful-paint")[0];
    if (found) done(found.startTime); else setTimeout(look, 10);
  };
  look();
})"""
#: Tells the form that it was changed, and waits until the frame after the new rows was painted.
_CHANGED = """
  const form = document.getElementById("filter"), list = document.getElementById("list");
  const changed = async () => {
    const before = list.dataset.loaded;
    form.dispatchEvent(new Event("change", { bubbles: true }));
    while (list.dataset.loaded === before) await new Promise((done) => setTimeout(done, 1));
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  };
"""
#: Takes every filter away.
_CLEAR = (
    "async () => {"
    + _CHANGED
    + """
  for (const one of form.elements) {
    if (one.type === "checkbox") one.checked = false; else if (one.name) one.value = "";
  }
  await changed();
}"""
)
#: Sets some fields; milliseconds until the new rows are painted.
_FILTER = (
    "async (fields) => {"
    + _CHANGED
    + """
  const began = performance.now();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of form.querySelectorAll(`[name="${name}"]`)) {
      if (one.type === "checkbox") one.checked = one.value === value; else one.value = value;
    }
  }
  await changed();
  return performance.now() - began;
}"""
)
#: Jumps to a share of the whole list; milliseconds until rows are there.
_SCROLL = """async (share) => {
  const list = document.getElementById("list"), rows = document.getElementById("rows");
  const began = performance.now();
  scrollTo(0, list.offsetTop + list.offsetHeight * share);
  const covered = () => {
    const box = rows.getBoundingClientRect();
    return box.top <= 60 && box.bottom >= Math.min(innerHeight, list.getBoundingClientRect().bottom) - 1;
  };
  while (!covered()) await new Promise((done) => setTimeout(done, 2));
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  return performance.now() - began;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--work", type=Path, help="where the run is written, and found again; temporary by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viewer-") as scratch:
        work = options.work or Path(scratch)
        run = work / f"rollouts-{options.rollouts}"
        if not run.exists():
            began = time.monotonic()
            write_rollouts(run, options.rollouts)
            print(f"wrote {options.rollouts:,} rollouts in {time.monotonic() - began:.0f} s", file=sys.stderr)
        seen = visit(run, Path(scratch) / "cache", options.repetitions)
    medians = {name: statistics.median(times) for name, times in seen.filters.items()}
    rows = [[f"first paint, {name}", f"{seconds:.2f} s", "", ""] for name, seconds in seen.first_paint.items()]
    rows.append(["index complete", f"{seen.indexed:.1f} s", "", ""])
    rows += [
        [f"filter: {name}", f"{medians[name]:.0f} ms", f"{max(times):.0f} ms", f"{seen.busy[name]:.0f} ms"]
        for name, times in seen.filters.items()
    ]
    rows.append(["jump in the list", f"{statistics.median(seen.scrolls):.0f} ms", f"{max(seen.scrolls):.0f} ms", ""])
    rows.append(["open a group", f"{seen.group:.2f} s", "", ""])
    title = (
        f"{options.rollouts:,} rollouts in headless Chromium; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(table(title, ["", "median", "worst", "processor"], rows))
    print(f"{seen.asked} requests, {len(seen.left)} of them to other places")
    print(
        json.dumps(
            {
                "first_paint_s": round(max(seen.first_paint.values()), 3),
                "filter_ms": round(max(medians.values()), 1),
                "rollouts": options.rollouts,
                "requests_leaving": len(seen.left),
            }
        )
    )


if __name__ == "__main__":
    main()
