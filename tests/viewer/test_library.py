"""Runs and evaluations are found, named once, and none of them hides the others."""

import json
import os
from pathlib import Path

import pytest

from easyvideor1.evaluation.certificate import Certificate
from easyvideor1.types import DataError
from easyvideor1.viewer.library import Library, frame_store, run_fingerprint

from .runs import group, write_run, write_step


def names(library: Library) -> list[str]:
    return [entry.name for entry in library.runs()]


def evaluated(directory: Path) -> Path:
    Certificate("mvbench", "1", "model", {"questions": "all"}, {"profile": "strict"}).write(directory)
    return directory


def test_runs_are_found_below_a_place(tmp_path):
    for name in ("b", "a", "deep/er/c"):
        write_run(tmp_path / "runs" / name)
    assert names(Library([tmp_path / "runs"])) == ["a", "b", "deep/er/c"]


def test_a_run_that_is_named_is_found_itself(tmp_path):
    run = write_run(tmp_path / "runs" / "mine")
    (entry,) = Library([run]).runs()
    assert (entry.name, entry.path, entry.kind) == ("mine", run, "run")


def test_keys_and_names_are_unique(tmp_path):
    for place in ("one", "two"):
        write_run(tmp_path / place / "mine")
    entries = Library([tmp_path / "one" / "mine", tmp_path / "two" / "mine", tmp_path / "one"]).runs()
    assert [entry.path for entry in entries] == [tmp_path / "one" / "mine", tmp_path / "two" / "mine"]
    assert len({entry.key for entry in entries}) == len({entry.name for entry in entries}) == 2


def test_keys_hold_nothing_that_an_address_would_change(tmp_path):
    write_run(tmp_path / "a b&c#d%2F..é")
    (entry,) = Library([tmp_path]).runs()
    assert entry.key == "a-b-c-d-2F"
    assert entry.name == "a b&c#d%2F..é"


def test_a_run_that_begins_later_is_found_and_keeps_its_key(tmp_path):
    library = Library([tmp_path], every=0)
    assert library.entries() == ()
    write_run(tmp_path / "x" / "mine")
    (first,) = library.runs()
    write_run(tmp_path / "a" / "mine")
    assert library.entry(first.key) == first
    assert len(library.runs()) == 2


def test_a_run_that_is_gone_is_said_to_be(tmp_path):
    run = write_run(tmp_path / "mine")
    library = Library([tmp_path], every=0)
    (entry,) = library.runs()
    run.rename(tmp_path.parent / "elsewhere-run")
    with pytest.raises(DataError, match="no run 'mine' below"):
        library.entry(entry.key, "run")


def test_evaluations_are_found_beside_and_within_runs(tmp_path):
    run = write_run(tmp_path / "mine")
    within, beside = evaluated(run / "evaluations" / "mvbench"), evaluated(tmp_path / "mvbench" / "model-1")
    assert [entry.path for entry in Library([tmp_path]).evaluations()] == [within, beside]


@pytest.mark.parametrize("name", ["01", "ab", "frames", "compare", "version"])
def test_a_run_may_have_any_name(tmp_path, name):
    write_run(tmp_path / name)
    (entry,) = Library([tmp_path]).runs()
    assert entry.name == name and entry.key not in ("compare", "version")


def test_parts_of_a_frame_store_are_not_searched(tmp_path):
    write_run(tmp_path / "store" / "ab" / "hidden")
    (tmp_path / "store" / "ab" / "x.safetensors").touch()
    assert names(Library([tmp_path])) == []


def test_stages_and_caches_are_not_searched(tmp_path):
    run = write_run(tmp_path / "mine")
    write_run(run / "stages" / "01-grpo" / "checkpoints" / "inner")
    write_run(tmp_path / "frames" / "hidden")
    write_run(tmp_path / ".cache" / "hidden")
    assert names(Library([tmp_path])) == ["mine"]


def test_links_in_a_circle_end(tmp_path):
    write_run(tmp_path / "a" / "mine")
    (tmp_path / "a" / "back").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a", target_is_directory=True)
    assert names(Library([tmp_path])) == ["a/mine"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_cannot_be_read_hides_no_other(tmp_path):
    write_run(tmp_path / "mine")
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        assert names(Library([tmp_path])) == ["mine"]
    finally:
        closed.chmod(0o755)


def test_a_directory_of_another_kind_is_no_run(tmp_path):
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "config.yaml").write_text("a: 1\n")
    (tmp_path / "site" / "stages").mkdir(parents=True)
    assert Library([tmp_path]).entries() == ()


def test_a_run_whose_configuration_is_lost_is_still_a_run(tmp_path):
    run = write_run(tmp_path / "mine")
    (run / "config.yaml").unlink()
    (run / "run.json").unlink()
    assert names(Library([tmp_path])) == ["mine"]


def test_the_fingerprint_changes_with_a_step(tmp_path):
    run = write_run(tmp_path / "mine")
    before = run_fingerprint(run)
    assert run_fingerprint(run) == before
    write_step(run, 3, [group(0)])
    assert run_fingerprint(run) != before


def test_the_frame_store_is_that_of_the_configuration(tmp_path):
    (tmp_path / "cache").mkdir()
    run = write_run(tmp_path / "mine", config=f"cache:\n  dir: {tmp_path / 'cache'}\n")
    found = frame_store(run)
    assert found is not None and found.directory == tmp_path / "cache"
    (run / "config.yaml").write_text("cache:\n  dir: kept/frames\n")
    assert frame_store(run) is None
    (tmp_path / "kept" / "frames").mkdir(parents=True)  # above the run, and not here
    assert frame_store(run).directory == tmp_path / "kept" / "frames"
    (tmp_path / "start" / "kept" / "frames").mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"directory": str(tmp_path / "start")}))
    assert frame_store(run).directory == tmp_path / "start" / "kept" / "frames"
    (run / "config.yaml").write_bytes(b"\xff\xfe: [")
    assert frame_store(run) is None
