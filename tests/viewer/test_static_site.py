"""The site as files: what is written, how links become relative, and what is never replaced."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from easyvideor1.cli.app import app
from easyvideor1.types import ConfigError
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.static_site import MARK, write_site

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def site(run, evaluated, tmp_path_factory):
    seen: list[tuple[int, int]] = []
    out = tmp_path_factory.mktemp("static") / "site"
    written = write_site(Library([run, evaluated]), out, on_progress=lambda done, total: seen.append((done, total)))
    return out, written, seen


def links(page: Path) -> list[Path]:
    found = re.findall(r'\b(?:href|src)="([^"]+)"', page.read_text())
    plain = [html.unescape(link).partition("#")[0] for link in found]
    return [page.parent / link for link in plain if link and not link.startswith("data:")]


def test_every_link_leads_to_a_file(site):
    out, written, _ = site
    pages = sorted(out.rglob("*.html"))
    assert len(pages) == written.pages and (out / "index.html") in pages and not written.faults
    for page in pages:
        for target in links(page):
            assert target.is_file(), f"{page.relative_to(out)} leads to {target}"
            assert target.resolve().is_relative_to(out.resolve())


def test_all_parts_are_there(site):
    out, written, seen = site
    names = {page.relative_to(out).as_posix() for page in out.rglob("*.html")}
    assert {"runs.html", "rollouts.html", "evaluations.html", "data.html", "runs/small.html"} <= names
    assert {f"runs/small/{part}.html" for part in ("time", "health", "evaluations", "settings")} <= names
    assert any(name.startswith("evaluations/compare--") for name in names)
    assert any(name.startswith("evaluations/question--") for name in names)
    assert seen[-1][0] == seen[-1][1] > written.pages
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert (written.size, written.files) == (size, sum(path.is_file() for path in out.rglob("*")))


def test_pages_ask_nobody_and_hold_no_forms_that_need_a_server(site):
    out, _, _ = site
    for page in out.rglob("*.html"):
        text = page.read_text()
        assert "data-version-url" not in text and "Content-Security-Policy" in text
        assert "http://" not in re.sub(r">[^<]*<", "><", text), page
    assert "<form" not in (out / "evaluations.html").read_text()


def test_it_may_be_written_again_but_replaces_nothing_else(site, run, tmp_path):
    out, _, _ = site
    before = json.loads((out / MARK).read_text())
    write_site(Library([run]), out)
    assert json.loads((out / MARK).read_text()) != before
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="name another directory"):
        write_site(Library([run]), mine)
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]


def test_files_that_were_put_in_later_are_kept(tmp_path):
    out = tmp_path / "site"
    write_site(Library([]), out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"notes\.txt"):
        write_site(Library([]), out)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_step_that_is_not_there_is_refused(run, tmp_path):
    with pytest.raises(ConfigError, match="--step 999"):
        write_site(Library([run]), tmp_path / "site", steps=[999])


def test_data_may_be_called_like_a_run(tmp_path):
    rows = tmp_path / "run-7b.jsonl"
    rows.write_text(json.dumps({"problem": "2 + 2?", "answer": "4", "problem_type": "numerical", "data_type": "text"}))
    written = write_site(Library([]), tmp_path / "site", data=[rows])
    assert any("run-7b" in path.name for path in (tmp_path / "site").rglob("data/*")), written


def test_what_fails_leaves_nothing(run, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_site(Library([run]), tmp_path / "out", on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_command(run, tmp_path):
    from typer.testing import CliRunner

    out = tmp_path / "site"
    done = CliRunner().invoke(app, ["view", str(run), "--static", str(out)])
    assert done.exit_code == 0, done.output
    assert re.search(r"wrote \S+index.html: \d+ pages, \d+ files, [\d.]+ [KM]?i?B", " ".join(done.output.split()))
    assert "goes with --static" in CliRunner().invoke(app, ["view", str(run), "--step", "3"]).output
    assert "no such file" in CliRunner().invoke(app, ["view", "--data", str(tmp_path / "x.yaml")]).output
