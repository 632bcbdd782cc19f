"""The notebooks run from top to bottom in an empty directory, and are stored without outputs."""

import json
import os
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from .commands import check_commands

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(path, cells, directory, monkeypatch):
    """Run the first cells of a notebook; gives what they printed."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    book = nbformat.read(path, as_version=4)
    book.cells = book.cells[:cells]
    client = nbclient.NotebookClient(book, timeout=600, kernel_name="python3")
    client.execute(cwd=str(directory))
    return "".join(output.get("text", "") for cell in book.cells for output in cell.get("outputs", ()))


def commands(path):
    """The places and the text of cells that run a command."""
    book = nbformat.read(path, as_version=4)
    return {n: cell.source[1:] for n, cell in enumerate(book.cells) if cell.source.startswith("!")}


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == {"first_run", "own_reward", "reading_rollouts"}


@each_notebook
def test_a_notebook_is_stored_without_outputs(path):
    book = json.loads(path.read_text(encoding="utf-8"))
    nbformat.validate(nbformat.from_dict(book))
    for cell in book["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        if cell["cell_type"] == "code":
            compile("".join(line for line in cell["source"] if not line.startswith(("!", "%"))), path.name, "exec")


@each_notebook
def test_the_commands_of_a_notebook_exist(path):
    assert any("evr1 train" in command for command in commands(path).values())
    for command in commands(path).values():
        check_commands(command)


@pytest.mark.model
@pytest.mark.timeout(600)
@each_notebook
def test_a_notebook_runs_until_it_trains(path, tmp_path, monkeypatch):
    said = run(path, min(commands(path)), tmp_path, monkeypatch)
    assert "error:" not in said.lower()
    assert (tmp_path / "run.yaml").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@each_notebook
def test_a_whole_notebook_runs(path, tmp_path, monkeypatch):
    said = run(path, None, tmp_path, monkeypatch)
    assert "error:" not in said.lower(), said  # of the commands, whose exit status a notebook does not look at
    assert list((tmp_path / "runs").glob("*/report.html"))
