"""The command line as a user meets it: processes, exit statuses, stderr."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from easyvideor1.cli import main
from easyvideor1.cli.app import VERBS

EVR1 = (sys.executable, "-c", "from easyvideor1.cli import main; main()")


def evr1(*words, **options):
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}
    return subprocess.run([*EVR1, *words], capture_output=True, text=True, timeout=300, env=environment, **options)


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from easyvideor1.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as done:\n    assert not done.code\n"
        "heavy = {'torch', 'transformers', 'av', 'matplotlib', 'pyarrow', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "config" in done.stdout


def test_a_mistake_is_told_before_torch_is_loaded(tmp_path):
    """Loading it takes seconds, in which the user waits for one line."""
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "run.yaml").write_text("stages: [{name: grpo}]\n")
    commands = [
        ["train", "none.yaml"],
        ["eval", "none.yaml", "--data", "rows.jsonl"],
        ["eval", "run.yaml", "--data", "."],
        ["report", "none"],
        ["export", "none", "out"],
        ["cache", "build"],
    ]
    code = (
        "import json, sys\n"
        "from easyvideor1.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    try:\n        main(words)\n    except SystemExit as done:\n        assert done.code == 2, words\n"
        "    assert 'torch' not in sys.modules, words\n"
        "import easyvideor1.evaluation\n"
        "assert 'torch' not in sys.modules, 'a report is made without it'\n"
    )
    started = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(started, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(commands)


def test_every_verb_is_there():
    listed = evr1("--help").stdout
    for verb in VERBS:
        assert f" {verb.name} " in listed, f"evr1 {verb.name}: {verb.module} is missing"


def test_version():
    import easyvideor1

    assert evr1("--version").stdout.strip() == f"easyvideor1 {easyvideor1.__version__}"


def test_a_mistake_is_one_message_without_a_traceback(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("stages:\n  - {name: a, lr: 1}\n")
    done = evr1("config", "show", str(path))
    assert done.returncode == 2
    assert done.stdout == ""
    meant = "did you mean stages.a.optimizer.lr or stages.a.critic.lr?"
    assert done.stderr == f"error: {path}:2: unknown key stages.a.lr: {meant}\n  see docs/configuration.md\n"


@pytest.mark.parametrize("words", [("--debug", "config", "show", "none"), ("config", "show", "none", "--debug")])
def test_debug_adds_the_traceback(words):
    done = evr1(*words)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "error: 'none' is neither a file nor a recipe" in done.stderr


def test_an_unknown_verb_and_no_verb():
    assert evr1("nonsense").returncode == 2
    assert "Commands" in (lambda done: done.stdout + done.stderr)(evr1())


def test_ctrl_c_ends_with_130(tmp_path):
    process = subprocess.Popen(
        [*EVR1, "toyworld", str(tmp_path / "world"), "train=100000"], stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 300
        while not (tmp_path / "world").exists() and not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in told
    assert "Traceback" not in told


def test_the_installed_command_is_this_one():
    command = Path(sys.executable).parent / "evr1"
    if not command.exists():
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "rows.jsonl"), "rows.jsonl: this is a file of rows, not a configuration; name it in data.train"),
        (("train", "run.yml"), "run.yml: no such file (from {place}); did you mean run.yaml?"),
        (("train", "run.yaml", "--steps", "3"), "No such option: --steps. Write settings without dashes, as"),
        (("check", "run.yaml"), "No such command 'run.yaml'. Put the command first: evr1 check data|rewards run.yaml"),
        (("check", "rewards", "row.jsonl"), "did you mean {place}/rows.jsonl"),
        (("report", "run.yam"), "run.yam: no such run directory: looked for {place}/run.yam; did you mean"),
        (("export", "run.yam", "out"), "run.yam: no such run directory: looked for {place}/run.yam; did you mean"),
        (("eval", "run.yaml", "--data", "."), ".: give the file of rows (.json, .jsonl or .parquet), not a directory"),
        (("eval", "run", "run.yaml", "--data", "."), ".: give the file of rows (.json, .jsonl or .parquet), not"),
        (("eval", "--data", ".", "run.yaml"), ".: give the file of rows (.json, .jsonl or .parquet), not a directory"),
        (("eval", "rn", "run.yaml"), "No such command 'rn'. Did you mean 'run'?"),
        (("cache", "build", "--geometry", "qwen3", "--video", "a.mp4", "b.mp4"), "b.mp4: --video and --image take one"),
        (("config", "docs", "--dir", "run.yaml/docs"), "Not a directory - a file exists where a directory is needed"),
    ],
)
def test_what_newcomers_type_is_put_right(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "run.yaml").write_text("stages: [{name: grpo}]\n")
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit) as done:
        main(list(words))
    told = capsys.readouterr().err
    assert done.value.code == 2 and "Traceback" not in told
    said = " ".join(re.sub("[│╭╮╰╯─]", " ", told).split())  # without the frame around what typer says
    assert message.format(place=tmp_path) in said
