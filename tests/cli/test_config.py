"""evr1 config."""

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.config import load_config, parse_config

RUN = CliRunner()


def test_show_prints_a_configuration_that_reads_back(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: mine\nstages: [{name: a}]\n")
    done = RUN.invoke(app, ["config", "show", str(path), "stages.a.optimizer.lr=1e-4", "seed=4"])
    assert done.exit_code == 0
    shown = parse_config(done.stdout, "shown")
    assert shown == load_config(path, ["stages.0.optimizer.lr=1e-4", "seed=4"])
    short = RUN.invoke(app, ["config", "show", str(path), "--only-set"]).stdout
    assert parse_config(short, "shown") == load_config(path)
    assert len(short) < 100


def test_docs_are_written_and_checked(tmp_path):
    assert RUN.invoke(app, ["config", "docs", "--check", "--dir", str(tmp_path)]).exit_code == 1
    assert list(tmp_path.iterdir()) == []
    assert RUN.invoke(app, ["config", "docs", "--dir", str(tmp_path)]).exit_code == 0
    assert RUN.invoke(app, ["config", "docs", "--check", "--dir", str(tmp_path)]).exit_code == 0
    (tmp_path / "configuration.md").write_text("old")
    done = RUN.invoke(app, ["config", "docs", "--check", "--dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "configuration.md" in done.stderr
    assert "config.schema.json" not in done.stderr


def test_schema_is_what_is_shipped():
    import json

    from easyvideor1.config.docs import json_schema

    assert json.loads(RUN.invoke(app, ["config", "schema"]).stdout) == json_schema()


def test_migrate_writes_and_lists(tmp_path):
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(
        "data: {train_files: a.json, val_batch_size: 4}\n"
        "algorithm: {filter_low: 0.1}\n"
        "worker: {rollout: {n: 4, tensor_parallel_size: 1}}\n"
        "trainer: {max_steps: 3}\n"
    )
    done = RUN.invoke(app, ["config", "migrate", str(old), "-o", str(new)])
    assert done.exit_code == 0
    assert "not converted: 1\n  data.val_batch_size (4): " in done.stderr
    assert "without effect in that file: 1\n  algorithm.filter_low (0.1): " in done.stderr
    assert load_config(new).stages[0].steps == 3
    printed = RUN.invoke(app, ["config", "migrate", str(old)])
    assert printed.stdout == new.read_text()
    before = new.read_text()
    again = RUN.invoke(app, ["config", "migrate", str(old), "-o", str(new)])
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert new.read_text() == before


@pytest.mark.parametrize("words", [["show"], ["migrate"], ["migrate", "/none.yaml"], ["show", "none", "x"]])
def test_mistakes_exit_with_2(words):
    assert RUN.invoke(app, ["config", *words]).exit_code == 2
