"""evr1 doctor: says what is broken, and only then fails."""

import json
from pathlib import Path

import pytest
from tests.benchmarks.releases.video_mmlu import FIXTURES as VIDEO_MMLU
from tests.rewards.judge_server import Server, chat
from typer.testing import CliRunner

from easyvideor1.cli import doctor
from easyvideor1.cli.app import app

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
RUN = CliRunner(env={"COLUMNS": "200"})


def findings(path, *overrides):
    return {finding.subject: finding for finding in doctor.check_config(str(path), list(overrides))}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "train.jsonl").write_text("{}\n")
    path = tmp_path / "run.yaml"
    values = {
        "model": {"path": str(tmp_path / "model")},
        "data": {"train": [{"path": str(tmp_path / "train.jsonl"), "media_root": str(tmp_path)}]},
        "cache": {"dir": str(tmp_path / "cache")},
        "output_dir": str(tmp_path / "runs" / "{name}"),
        "rewards": {"custom": {"math": "easyvideor1.types:Score"}},
        "stages": [{"name": "rl"}],
    }
    path.write_text(json.dumps(values))
    return path


def test_the_machine_and_a_good_configuration_pass(config):
    done = RUN.invoke(app, ["doctor", str(config)])
    assert done.exit_code == 0, done.output
    assert "video round trip" in done.stdout
    assert "broken" not in done.stdout
    assert not (config.parent / "cache").exists()


def test_ranks_that_only_a_launcher_can_place_are_told(config):
    found = findings(config, "cluster.nodes=2", "cluster.placement=process")["cluster.placement"]
    assert found.state == "note" and "cluster.nodes is 2" in found.detail and "torchrun" in found.remedy
    assert "cluster.placement" not in findings(config, "cluster.nodes=2")


@pytest.mark.parametrize(
    ("override", "subject"),
    [
        ("model.path=", "model.path"),
        ("model.path=/nowhere", "model.path"),
        ("data.train.0.path=/nowhere.jsonl", "data.train.0.path"),
        ("data.train.0.media_root=/nowhere", "data.train.0.media_root"),
        ("prompts.templates=/nowhere", "prompts.templates"),
        ("rewards.custom.math=no_such_module:judge", "rewards.custom.math"),
        ("rewards.parts=[{name: bonus, reward: bonos}]", "rewards.parts"),
        ("rollout.engine=nope:x", "rollout.engine"),
        ("rollout.strategy=nope:y", "rollout.strategy"),
        ("data.transforms=[nope:z]", "data.transforms"),
        ("loggers=[nope:log]", "loggers"),
        ("stages.rl.advantage=nope:x", "stages.rl.advantage"),
        ("stages.rl.objective=nope:x", "stages.rl.objective"),
        ("stages.rl.weighter=nope:x", "stages.rl.weighter"),
        ("stages.rl.correction=nope:x", "stages.rl.correction"),
        ("stages.rl.transforms=[nope:z]", "stages.rl.transforms"),
        ("seed=x", "config"),
    ],
)
def test_what_is_broken_is_named(config, override, subject):
    assert {s: f.state for s, f in findings(config).items() if f.state != "ok"} == {}
    broken = {s: f for s, f in findings(config, override).items() if f.state == "broken"}
    assert set(broken) == {subject}
    assert broken[subject].remedy


@pytest.mark.parametrize(
    ("model_type", "words"),
    [("qwen3_vl", ("the video has none", "another pair")), ("qwen2_5_vl", ("its last position", "its longer side"))],
)
def test_the_convention_of_prompts_is_told_where_two_differ(config, model_type, words):
    assert "model.conventions" not in findings(config), "nothing is known of this model"
    (config.parent / "model" / "config.json").write_text(json.dumps({"model_type": model_type}))
    for convention, mine, other in (("released", *words), ("transformers", *reversed(words))):
        chosen = [] if convention == "released" else [f"model.conventions={convention}"]
        detail = findings(config, *chosen)["model.conventions"].detail
        assert detail.startswith(f"{convention}: ")
        assert detail.index(mine) < detail.index(" (in ") < detail.index(other)


def video_mmlu(place):
    """A release of three captions, with the videos of two."""
    release = VIDEO_MMLU[0].write(place / "video_mmlu")
    (release / "youtube_videos").mkdir()
    for name in ("a", "b"):
        (release / "youtube_videos" / f"{name}.mp4").write_bytes(b"no video, but a file")
    return release


def test_benchmarks_are_looked_for_before_a_run(config, request):
    release = video_mmlu(config.parent)
    server = Server(lambda number, body: chat("yes"))
    request.addfinalizer(server.close)
    judge = (f"rewards.judge.url={server.url}", "rewards.judge.model=m")
    before = sorted(config.parent.rglob("*"))

    def found(*overrides):
        return findings(config, f"evaluation.benchmarks=[video_mmlu={release}]", *overrides)["evaluation.benchmarks.0"]

    there = found(*judge)
    assert there.state == "note" and "3 questions" in there.detail and "3 rows refused" in there.detail
    assert "1 of 3 media files missing, such as " in there.detail and "c.mp4, which costs 1 question" in there.detail
    few = found(*judge, "evaluation.max_samples=2", "evaluation.max_failed=0.1", "seed=1")
    assert "2 questions of 3, as evaluation.max_samples says" in few.detail
    stops = found(*judge, "evaluation.max_failed=0.1")
    assert stops.state == "broken" and "a run would stop" in stops.remedy
    without = found()
    assert without.state == "broken" and "rewards.judge.url" in f"{without.detail} {without.remedy}"
    assert sorted(config.parent.rglob("*")) == before, "doctor writes nothing"
    (release / "youtube_videos" / "c.mp4").write_bytes(b"here it is")
    assert "all 3 media files there" in found(*judge).detail
    (release / "Video_MMLU_CAP.tsv").unlink()
    gone = found(*judge)
    assert gone.state == "broken" and "no annotations of" in gone.detail and gone.remedy


def test_rows_of_benchmarks_are_checked_before_a_run(config):
    rows = config.parent / "rows.jsonl"
    row = {"problem": "<image>What?", "answer": "4", "problem_type": "numerical", "images": ["a.png"]}
    rows.write_text(json.dumps(row) + "\n")
    (config.parent / "a.png").write_bytes(b"a file")

    def found(*targets):
        named = findings(config, f"evaluation.benchmarks=[{', '.join(map(str, targets))}]")
        return {key: one for key, one in named.items() if key.startswith("evaluation.")}

    (good,) = found(rows).values()
    assert (good.state, good.detail) == ("ok", f"{rows}: 1 question, all 1 media file there")
    assert {key: one.state for key, one in found(rows, rows, "/nowhere.jsonl").items()} == {
        "evaluation.benchmarks.0": "ok",
        "evaluation.benchmarks.1": "ok",
        "evaluation.benchmarks.2": "broken",
        "evaluation.benchmarks": "broken",  # two of one name
    }
    rows.write_text(json.dumps({**row, "answer": None}) + "\n")
    (bad,) = found(rows).values()
    assert bad.state == "broken" and "rows.jsonl:1" in bad.detail


def test_something_broken_is_exit_status_1(config):
    done = RUN.invoke(app, ["doctor", str(config), "model.path=/nowhere"])
    assert done.exit_code == 1
    assert "/nowhere" in done.stdout
    assert "1 broken" in done.stderr


def test_a_cache_below_a_file_cannot_be_written(config):
    below = config.parent / "train.jsonl" / "cache"
    assert findings(config, f"cache.dir={below}")["cache.dir"].state == "broken"


def test_every_required_package_is_looked_at():
    subjects = {finding.subject for finding in doctor.check_packages()}
    assert {"torch", "transformers", "av", "pydantic"} <= subjects
    assert "vllm" not in subjects


def test_every_extra_of_the_distribution_is_looked_at():
    import tomllib

    offered = set(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"])
    assert set(doctor.EXTRAS) == offered - {"dev", "docs", "bench"}
    assert {finding.subject for finding in doctor.check_extras()} == set(doctor.EXTRAS)


@pytest.mark.parametrize(("installed", "state"), [("0.32.0", "ok"), ("0.33.1", "note"), ("0.3.2", "note")])
def test_a_vllm_that_was_not_tested_is_named(monkeypatch, installed, state):
    monkeypatch.setattr("importlib.metadata.version", lambda package: installed)
    finding = doctor._vllm()
    assert finding.state == state and installed in finding.detail


def test_the_layers_of_the_sandbox_are_named():
    from easyvideor1.rewards.sandbox import protection

    (finding,) = doctor.check_sandbox()
    assert finding.subject == "sandbox"
    assert all(layer in finding.detail for layer in protection())
    assert finding.state == "ok" or finding.remedy


def test_the_browser_is_the_one_that_renders():
    from easyvideor1.rewards.rendering.browser import find_chromium

    (finding,) = doctor.check_browser()
    assert finding.detail == (find_chromium() or "not found")
