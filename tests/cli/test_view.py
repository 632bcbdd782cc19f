"""evr1 view."""

import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
from tests.viewer.runs import write_run
from typer.testing import CliRunner

from easyvideor1.cli.app import app

RUN = CliRunner()


@contextmanager
def viewer(*arguments, cwd=None, env=None):
    """The address that a viewer has printed, and its process."""
    command = [sys.executable, "-m", "easyvideor1.cli", "view", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, cwd=cwd, env=env, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        yield found[0], process
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_a_run_is_shown_and_ctrl_c_ends_the_viewer(tmp_path):
    run = write_run(tmp_path / "mine")
    with viewer(run) as (address, _):
        answer = httpx.get(f"{address}rollouts", trust_env=False)
        assert answer.status_code == 200 and "mine" in answer.text


def test_without_an_argument_runs_are_shown(tmp_path):
    write_run(tmp_path / "runs" / "mine")
    with viewer(cwd=tmp_path) as (address, _):
        assert "mine" in httpx.get(f"{address}rollouts", trust_env=False).text


def test_another_address_makes_a_token(tmp_path):
    run = write_run(tmp_path / "mine")
    with viewer(run, "--host", "0.0.0.0") as (address, _):
        found = re.fullmatch(r"http://[^/]+:(\d+)/\?token=([\w-]{24,})", address)
        assert found
        here = f"http://127.0.0.1:{found[1]}/rollouts"
        assert httpx.get(here, trust_env=False).status_code == 401
        with httpx.Client(trust_env=False, follow_redirects=True) as browser:
            assert browser.get(here, params={"token": found[2]}).status_code == 200
            assert browser.get(here).status_code == 200


def test_the_printed_address_has_the_token_quoted(tmp_path):
    run = write_run(tmp_path / "mine")
    with viewer(run, "--token", "ab+c/d=") as (address, _), httpx.Client(trust_env=False) as browser:
        assert browser.get(address, follow_redirects=True).status_code == 200


@pytest.mark.parametrize("make", [False, True])
def test_nothing_to_show_is_said(tmp_path, make):
    place = tmp_path / "empty"
    if make:
        place.mkdir()
    done = RUN.invoke(app, ["view", str(place)])
    assert done.exit_code == 2
    assert ("no run and no evaluation" if make else "no such directory") in done.stderr


def test_without_runs_it_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = RUN.invoke(app, ["view"])
    assert done.exit_code == 2 and "evr1 view RUN" in done.stderr


def test_a_port_that_is_taken_is_said(tmp_path):
    run = write_run(tmp_path / "mine")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = RUN.invoke(app, ["view", str(run), "--port", str(port)])
    assert done.exit_code == 2 and f"port {port} of 127.0.0.1 is taken" in done.stderr


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_a_package_that_is_missing_is_named(tmp_path, missing):
    run = write_run(tmp_path / "mine")
    program = (
        "import sys; from importlib.abc import MetaPathFinder\n"
        "class Without(MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        f"            raise ModuleNotFoundError(name, name={missing!r})\n"
        "sys.meta_path.insert(0, Without())\n"
        "from easyvideor1.cli import main; main()"
    )
    command = [sys.executable, "-c", program, "view", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f'evr1 view needs {missing}: pip install "easyvideor1[view]"' in done.stderr
