"""A start that finds everything as it was makes no prompt again, and says the same as one that makes them all."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.data import CHECK_CACHE_NAME, Loaded
from easyvideor1.families.grid_vl import GridVL
from easyvideor1.types import DataError, Prompt
from training.runs import World, write_rows

pytestmark = pytest.mark.model

OWN_FAMILY = """
from easyvideor1.families.qwen3_vl import Qwen3VL


class Own(Qwen3VL):
    pass
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(tmp_path_factory.mktemp("starts"))
    time.sleep(0.12)  # a file is remembered once a further change of it would show in its times
    return made


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts of the prompts that are made."""
    texts: list[str] = []
    real = GridVL.render

    def note(self: GridVL, text: str, *rest: Any, **options: Any) -> Prompt:
        texts.append(text)
        return real(self, text, *rest, **options)

    monkeypatch.setattr(GridVL, "render", note)
    return texts


@pytest.fixture
def config(world: World, tmp_path: Path) -> Callable[..., RunConfig]:
    """A configuration over the same rows, media and cache; media and checkpoint are copies that a test may change."""
    shutil.copytree(world.home / "world" / "media", tmp_path / "media")
    shutil.copytree(world.checkpoint, tmp_path / "model")
    rows = [json.loads(line) for line in Path(world.rows("train")).read_text().splitlines()]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    time.sleep(0.12)

    def make(**changes: Any) -> RunConfig:
        usual = {"data__train": [{"path": path}], "cache__dir": str(tmp_path / "frames")}
        return world.short(**{**usual, "model__path": str(tmp_path / "model"), **changes})

    return make


def start(config: RunConfig) -> list[Loaded]:
    with Components.open(config) as components:
        return components.load_sources(config.data.train)


def refusal(config: RunConfig) -> str:
    with pytest.raises(DataError) as refused:
        start(config)
    return str(refused.value)


def forget(config: RunConfig) -> None:
    (Path(config.cache.dir) / CHECK_CACHE_NAME).unlink()


def test_an_unchanged_start_makes_no_prompt(config: Callable[..., RunConfig], rendered: list[str]) -> None:
    seen: list[tuple[int, int]] = []
    first = start(config())
    assert len(rendered) == len({(sample.question, sample.media) for sample in first[0].samples})
    rendered.clear()
    with Components.open(config()) as components:
        assert (
            components.load_sources(components.config.data.train, lambda done, total: seen.append((done, total)))
            == first
        )
        assert not rendered and seen[-1] == (12, 12)
        sample = first[0].samples[0]
        prompt = components.render(sample)
        assert len(rendered) == 1
        report = components.fill_cache(first)
        assert report.failed == 0 and components.without_failed(first, report) == first
    forget(config())
    rendered.clear()
    assert start(config()) == first and rendered
    with Components.open(config()) as components:
        assert components.render(sample).token_ids.tolist() == prompt.token_ids.tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"prompts__system": "Look closely."},
        {"prompts__thinking": False},
        {"data__max_prompt_tokens": 4000},
        {"model__conventions": "transformers"},
        {"model__trust_remote_code": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_setting_makes_all_prompts_again(
    config: Callable[..., RunConfig], rendered: list[str], changes: dict[str, Any]
) -> None:
    first = start(config())
    count = len(rendered)
    rendered.clear()
    assert start(config(**changes)) == first and len(rendered) == count


def test_another_budget_makes_prompts_of_its_kind_again(config: Callable[..., RunConfig], rendered: list[str]) -> None:
    (loaded,) = start(config())
    videos = {(sample.question, sample.media) for sample in loaded.samples if sample.modality == "video"}
    rendered.clear()
    start(config(data__video__frames=2))
    assert len(rendered) == len(videos) > 0


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja", "config.json"])
def test_another_checkpoint_makes_all_prompts_again(
    config: Callable[..., RunConfig], rendered: list[str], tmp_path: Path, file: str
) -> None:
    first = start(config())
    count = len(rendered)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"other weights")
    rendered.clear()
    assert start(config()) == first and not rendered
    with (tmp_path / "model" / file).open("a") as stream:
        stream.write("\n")
    assert start(config()) == first and len(rendered) == count


def test_a_family_outside_the_package_is_not_remembered(
    config: Callable[..., RunConfig], rendered: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_family_of_starts.py").write_text(OWN_FAMILY)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = config(model__family="own_family_of_starts:Own")
    first = start(own)
    count = len(rendered)
    rendered.clear()
    assert start(own) == first and len(rendered) == count


def test_a_changed_medium_is_looked_at_again(
    config: Callable[..., RunConfig], rendered: list[str], tmp_path: Path
) -> None:
    (loaded,) = start(config())
    sample = next(one for one in loaded.samples if one.modality == "video")
    path = Path(sample.media[0].path)
    rendered.clear()
    status = path.stat()
    content = path.read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # programs that copy files set it back
    time.sleep(0.12)
    assert start(config()) == [loaded] and rendered
    path.write_bytes(content[:300])
    message = refusal(config())
    assert message.count("cannot be used") == 1 and path.name in message
    forget(config())
    assert refusal(config()) == message


def test_a_medium_that_was_just_written_is_not_remembered(
    config: Callable[..., RunConfig], rendered: list[str], tmp_path: Path
) -> None:
    whole = (int(time.time()) + 2) * 10**9  # as on a file system that counts whole seconds, one of which has just begun
    for path in (tmp_path / "media").rglob("*.*"):
        os.utime(path, ns=(whole, whole))
    first = start(config())
    count = len(rendered)
    rendered.clear()
    assert start(config()) == first and len(rendered) == count > 0


def test_rows_that_are_refused_are_refused_with_the_same_words(
    config: Callable[..., RunConfig], rendered: list[str], tmp_path: Path
) -> None:
    (loaded,) = start(config())
    with Components.open(config()) as components:
        lengths = sorted(len(components.render(sample)) for sample in loaded.samples)
    short = config(data__max_prompt_tokens=lengths[6])
    messages = [refusal(short), refusal(short)]
    forget(config())
    assert refusal(short) == messages[0] == messages[1] and "data.max_prompt_tokens is" in messages[0]
    rendered.clear()
    skipping = config(data__max_prompt_tokens=lengths[6], data__on_bad_row="skip")
    (left,) = start(skipping)
    assert 0 < len(left.samples) < 12 and all("max_prompt_tokens" in bad.what for bad in left.bad)
    assert len(set(rendered)) <= len(left.bad)  # what passed beside the faults was remembered all the same


def test_a_damaged_memo_costs_time_alone(config: Callable[..., RunConfig], rendered: list[str]) -> None:
    first = start(config())
    count = len(rendered)
    rendered.clear()
    memo = Path(config().cache.dir) / CHECK_CACHE_NAME
    memo.write_bytes(memo.read_bytes()[:-3])
    with pytest.warns(UserWarning, match=rf"{CHECK_CACHE_NAME} is damaged"):
        assert start(config()) == first and len(rendered) == count
    rendered.clear()
    assert start(config()) == first and not rendered
