"""What makes two surveys the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from easyvideor1.config import RunConfig
from easyvideor1.config.schema import JudgeConfig
from easyvideor1.curation.identity import checkpoint_digests, differences, survey_identity


def test_every_file_that_a_model_is_made_of_counts(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "optimizer.safetensors", "critic.safetensors", ".gitattributes"):
        (tmp_path / name).write_bytes(b"x" * (3 << 20))
    (tmp_path / "folder").mkdir()
    before = checkpoint_digests(tmp_path)
    assert list(before) == ["config.json", "model.safetensors"]
    with (tmp_path / "model.safetensors").open("r+b") as file:  # in the middle; the size stays
        file.seek(3 << 19)
        file.write(b"y")
    after = checkpoint_digests(tmp_path)
    assert differences({"checkpoint": before}, {"checkpoint": after}) == [
        "the checkpoint's file model.safetensors changed"
    ]


def test_all_of_a_package_counts_and_nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rewards.py").write_text("from own_package.words import judge")
    (package / "words.py").write_text("def judge(sample, response): ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    custom = {"math": "own_package.rewards:judge", "ocr": "easyvideor1.rewards.score:score"}
    config = RunConfig.model_validate({"rewards": {"custom": custom}})
    try:
        before = survey_identity(config, k=1, checkpoint=None)
        assert list(before["code"]) == ["own_package.rewards"]
        (package / "words.py").write_text("def judge(sample, response): return None")
        after = survey_identity(config, k=1, checkpoint=None)
    finally:
        for name in ("own_package", "own_package.rewards", "own_package.words"):
            sys.modules.pop(name, None)
    assert differences(before, after) == ["the code of own_package.rewards changed"]


def test_another_endpoint_is_another_survey() -> None:
    def asked(model: str) -> dict[str, object]:
        endpoint = JudgeConfig(url="http://localhost/v1", model=model)
        return survey_identity(RunConfig(), k=1, checkpoint=None, endpoint=endpoint)

    assert differences(asked("small"), asked("big")) == ["endpoint.model is 'small' there, 'big' here"]
    many = differences({}, {f"n{n}": n for n in range(9)})
    assert len(many) == 6 and many[-1] == "and 4 more"
