"""The generated pages: they say what the code says, and ``evr1 config docs --check`` notices when they do not."""

import re
from pathlib import Path

import pytest
import typer

from easyvideor1.cli import main
from easyvideor1.cli.app import VERBS, app
from easyvideor1.cli.command_page import command_page
from easyvideor1.cli.documents import PAGES, stale, write_all
from easyvideor1.cli.metric_page import metric_page
from easyvideor1.cli.paper_page import citations, paper_page, papers, registered
from easyvideor1.config.keys import fields_at
from easyvideor1.recipes.package import shipped_packages

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "easyvideor1"


def test_the_pages_of_the_repository_are_up_to_date():
    assert stale(ROOT / "docs") == (), "run: evr1 config docs"


def test_a_changed_page_is_noticed(tmp_path, capsys):
    written = write_all(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in written} >= set(PAGES)
    main_exits(["config", "docs", "--check", "--dir", str(tmp_path)], 0)
    page = tmp_path / "reference" / "metrics.md"
    page.write_text(page.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    (tmp_path / "papers.md").unlink()
    main_exits(["config", "docs", "--check", "--dir", str(tmp_path)], 1)
    told = capsys.readouterr().err
    assert "metrics.md is out of date" in told and "papers.md is out of date" in told and "commands.md" not in told


def main_exits(words, status):
    with pytest.raises(SystemExit) as done:
        main(words)
    assert (done.value.code or 0) == status


def test_every_command_and_option_is_on_the_page():
    page = command_page()
    assert all(f"## evr1 {verb.name}" in page for verb in VERBS)

    def walk(command, words):
        inner = getattr(command, "commands", None)
        if inner is not None:
            for name, each in inner.items():
                walk(each, [*words, name])
            return
        section = page.partition(f"## {' '.join(words)}\n")[2].partition("\n## ")[0]
        assert section, words
        for parameter in command.params:
            if parameter.param_type_name == "option" and parameter.name != "help":
                assert all(f"`{name}`" in section for name in parameter.opts), (words, parameter.name)

    walk(typer.main.get_command(app), ["evr1"])


def test_tables_have_equally_many_cells_in_every_row():
    for text in (command_page(), metric_page(), paper_page()):
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            counts = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
            assert len(counts) == 1, table[:300]


def test_every_paper_that_a_registered_algorithm_cites_is_in_the_table():
    known = {paper.cited for paper in papers()}
    cited = {one for _, text in registered() for one in citations(text)}
    assert len(cited) > 25
    assert cited - known == set()


def test_every_paper_of_the_table_is_cited_in_the_code():
    source = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for path in PACKAGE.rglob("*.py"))
    assert [paper.cited for paper in papers() if paper.cited not in source] == []
    assert [paper.cited for paper in papers() if not (paper.arxiv or paper.venue)] == []


def test_every_part_says_a_key_or_a_file_that_exists():
    wrong = []
    for paper in papers():
        if not paper.where:
            continue
        there = (PACKAGE / paper.where).is_file() if paper.where.endswith(".py") else fields_at(paper.where.split("."))
        if not (there and paper.here):
            wrong.append(paper.cited)
    assert wrong == []


def test_every_recipe_of_a_paper_has_a_row():
    page = paper_page()
    for package in shipped_packages():
        assert not package.about.paper or f"`evr1 train {package.name}`" in page


def test_every_public_benchmark_has_its_numbers_in_the_glossary():
    from easyvideor1.benchmarks.benchmark import BENCHMARKS, Benchmark, load_definitions

    load_definitions()
    page = metric_page()
    for name in BENCHMARKS.names():
        found = BENCHMARKS.resolve(name)
        for metric in found.metrics if isinstance(found, Benchmark) else ():
            assert re.search(rf"^\| `{name}` \| {re.escape(metric.name)} \| \S", page, re.MULTILINE), (
                name,
                metric.name,
            )
