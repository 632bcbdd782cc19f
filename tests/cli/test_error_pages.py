"""Errors name the page that says more; every page and every anchor exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from easyvideor1.cli.app import app
from easyvideor1.cli.error_pages import KINDS, TOPICS, page_of
from easyvideor1.rewards.types import ColumnError, RewardError
from easyvideor1.types import ConfigError, DataError, EasyVideoError, MediaError

DOCS = Path(__file__).parents[2] / "docs"
RUN = CliRunner()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as mkdocs makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", word) for word in words}


@pytest.mark.parametrize("target", sorted({*(page for _, page in TOPICS), *KINDS.values()}))
def test_every_page_and_anchor_exists(target: str) -> None:
    page, _, anchor = target.partition("#")
    assert (DOCS / page).is_file()
    assert not anchor or anchor in anchors(DOCS / page)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_an_error(kind: str) -> None:
    module, name = kind.split(":")
    assert issubclass(getattr(importlib.import_module(module), name), EasyVideoError)


def test_the_topic_goes_before_the_kind() -> None:
    assert page_of(ConfigError("model.path 'x' was not found; correct it")) == "docs/families.md#loading"
    assert page_of(ConfigError("seed: not a number; write one")) == "docs/configuration.md"
    assert page_of(DataError("rows.jsonl:3: no such field; add it")) == "docs/data.md"
    assert page_of(ColumnError("tests", "no list")) == "docs/data.md", "as its base"
    assert page_of(RewardError("it raised; mend it")) == "docs/rewards.md#your-own-reward"
    assert page_of(MediaError("clip.mp4 cannot be read", path="clip.mp4")) == "docs/frames.md"
    assert page_of(EasyVideoError("the disk is full")) == ""


def test_the_command_shows_it_behind_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = RUN.invoke(app, ["train", "nowhere.yaml"])
    assert done.exit_code == 2
    message, page = done.stderr.splitlines()[0], done.stderr.splitlines()[-1]
    assert message.startswith("error: ") and page == "  see docs/configuration.md"
