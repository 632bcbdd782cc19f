"""The directory in which the code of a page is run, and how."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from .blocks import ROOT, Block
from .commands import check_commands
from .forking import Evr1

#: Seconds until a block is stopped.
DEADLINE = 540

CONFIG = """name: own
threads: 1
model: {path: model}
data:
  train: [{path: rows.jsonl}]
  validation: [{path: validation.jsonl}]
  test: [{path: test.jsonl}]
  video: {rule: uniform, frames: 8, min_pixels: 4096, max_pixels: 4096}
  image: {min_pixels: 4096, max_pixels: 4096}
cache: {workers: 1}
rollout: {max_new_tokens: 40}
stages:
  - {name: grpo, steps: 2, prompts_per_step: 4, group_size: 4, save_every: 1, optimizer: {lr: 1e-4}}
evaluation: {samples: 1}
"""


def make_desk(desk: Path) -> Path:
    """What every page finds (CONTRIBUTING.md lists it): rows, clips, a tiny model, configurations, a finished run."""
    from easyvideor1.cli.train import train_and_report
    from easyvideor1.config import load_config
    from easyvideor1.recipes.toy import KINDS, write_warm_start
    from easyvideor1.toyworld import WorldSpec, write_world

    quickstart = desk / "runs" / "quickstart"
    world = quickstart / "world-0"
    write_warm_start(quickstart / "warm-start")
    write_world(WorldSpec(seed=0, train=12, validation=4, test=8, kinds=KINDS, bodies=(1, 1), image_share=0.0), world)
    shutil.copytree(quickstart / "warm-start", desk / "model")
    shutil.copytree(world / "media", desk / "media")
    for split, name in (("train", "rows"), ("validation", "validation"), ("test", "test")):
        shutil.copyfile(world / f"{split}.jsonl", desk / f"{name}.jsonl")
    first = json.loads((desk / "rows.jsonl").read_text(encoding="utf-8").splitlines()[0])
    shutil.copyfile(world / first["videos"][0], desk / "clip.mp4")
    for name in ("my", "run", "config"):
        (desk / f"{name}.yaml").write_text(CONFIG, encoding="utf-8")
    before = Path.cwd()
    os.chdir(desk)
    try:
        train_and_report(load_config("run.yaml"), Console(file=io.StringIO()))
    finally:
        os.chdir(before)
    return desk


def take_desk(desk: Path, place: Path) -> Path:
    """A copy of the desk for one page; files are shared until they are written anew."""
    shutil.copytree(desk, place, copy_function=os.link, dirs_exist_ok=True)
    for linked in [*place.glob("*.yaml"), *place.rglob("*.jsonl")]:  # pages may append to these
        text = linked.read_bytes()
        linked.unlink()
        linked.write_bytes(text)
    return place


class Page:
    """Runs the blocks of one page in ``place``: commands by bash, Python in one namespace."""

    def __init__(self, place: Path, evr1: Evr1, *, slow: bool) -> None:
        self.place = place
        self.slow = slow
        self.names: dict[str, Any] = {"__name__": "__page__"}
        commands = place / ".bin"
        commands.mkdir()
        evr1.write_client(commands / "evr1")
        python = commands / "python"  # no link: it would not find the packages of a virtual environment
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        path = os.pathsep.join([str(commands), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = {
            **os.environ,
            "PATH": path,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "120",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        }

    def take(self, block: Block) -> None:
        """Run a block, or check it where its comment says that it cannot be run here."""
        runs = "not run" not in block.says and ("slow" not in block.says or self.slow)
        for name in block.says.get("without", "").split():
            (self.place / name).unlink()
        if block.file:
            file = self.place / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.unlink(missing_ok=True)
            file.write_text(block.text, encoding="utf-8")
        if block.language == "bash":
            self.bash(block) if runs else check_commands(block.text)
        elif block.language == "python":
            code = compile(block.text, block.place, "exec")
            if runs:
                exec(code, self.names)
        elif block.language == "yaml":
            check_yaml(block.text, block.says.get("yaml", "configuration"), block.place)
        elif block.language == "json":
            for line in _json_values(block.text):
                json.loads(line)
        elif block.language in ("jinja", "jinja2"):
            import jinja2

            jinja2.Environment(autoescape=False).parse(block.text)

    def bash(self, block: Block) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.place,
            env={**self.environment, "EVR1_SHORT": block.says.get("short", "")},
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        fails = "fails" in block.says
        if (done.returncode != 0) != fails:
            told = f"exit status {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            raise AssertionError(f"{block.place}:\n{block.text}\n{told}")
        if fails and block.says["fails"] not in done.stdout + done.stderr:
            raise AssertionError(f"{block.place}: fails without saying {block.says['fails']!r}:\n{done.stderr[-3000:]}")


def check_yaml(text: str, kind: str, place: str) -> None:
    """Load YAML as what it is: a part of a configuration by default.

    Raises:
        EasyVideoError: a key or a value is wrong.
    """
    from easyvideor1.config import load_config
    from easyvideor1.config.load import validate
    from easyvideor1.config.repeat import written_out
    from easyvideor1.config.yaml_source import Source, read_yaml

    if kind == "any":
        yaml.safe_load(text)
        return
    if kind == "about":
        from easyvideor1.recipes.package import About

        About.model_validate(read_yaml(text, place).values)
        return
    assert kind == "configuration", f"{place}: yaml: {kind} is not known: configuration, about or any"
    written = read_yaml(text, place)
    if "base" in written.values:  # it says by itself what it lies over: a recipe, or a file of the page
        file = Path(f"block-{place.rpartition(':')[2]}.yaml")
        file.write_text(text, encoding="utf-8")
        load_config(file)
        return
    source = written_out(written)
    base = read_yaml(CONFIG, "the desk").values
    validate(Source(_merged(base, source.values), source.marks))


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        nested = isinstance(value, dict) and isinstance(both.get(key), dict) and "name" not in value
        both[key] = _merged(both[key], value) if nested else value
    return both


def _json_values(text: str) -> list[str]:
    """A block is one JSON value, or has one a line."""
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return text.splitlines()
    return [text]
