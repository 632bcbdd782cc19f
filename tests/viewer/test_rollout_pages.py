"""Pages of rollouts: odd values, neighbours in a list that grows, and lists that are written to files."""

import re
import threading
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.library import Library
from easyvideor1.viewer.pages.rollouts import Indices
from easyvideor1.viewer.rollout_index import RolloutIndex
from easyvideor1.viewer.static_site import write_site

from .runs import group, said, write_run, write_step


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "easyvideor1" / "viewer"


def client_of(run: Path, cache: Path) -> TestClient:
    """The site of a run whose index is complete."""
    RolloutIndex(run.resolve(), cache).fill()
    return TestClient(build_app(Library([run])), base_url="http://127.0.0.1")


def test_an_accuracy_that_is_no_number_is_shown(tmp_path, cache):
    run = write_run(tmp_path / "run", steps=0)
    file = write_step(run, 1, [group(0, [said("odd", 1.0)]), group(1)])
    text = re.sub(r'"accuracy": ?1\.0', '"accuracy": NaN', file.read_text(), count=1)
    assert "NaN" in text  # as a record that something else has written may have it
    file.write_text(text)
    client = client_of(run, cache)
    for address in ("/rollouts/run", "/rollouts/run?by=response", "/rollouts/run/rows", "/rollouts/run/01-grpo/1/0"):
        assert client.get(address).status_code == 200, address


def test_neighbours_are_those_of_the_list_as_it_is_now(tmp_path, cache):
    run = write_run(tmp_path / "run", steps=2)
    client = client_of(run, cache)
    address = "/rollouts/run/01-grpo/1/1?at=4"
    assert "/rollouts/run/01-grpo/1/0?at=3" in client.get(address).text
    write_step(run, 3, [group(7), group(8)])
    RolloutIndex(run.resolve(), cache).fill()
    page = client.get(address).text
    assert "/rollouts/run/01-grpo/1/0?at=5" in page and "/rollouts/run/01-grpo/1/2?at=7" in page
    assert "7 of 8" in page


def test_a_key_gives_only_what_its_filter_leaves(tmp_path, cache):
    client = client_of(write_run(tmp_path / "run", steps=2), cache)
    first = client.get("/rollouts/run/rows?count=2").json()
    assert (first["total"], first["start"], first["end"]) == (6, 0, 2)
    again = client.get(f"/rollouts/run/rows?first=2&count=100&search={first['search']}").json()
    assert (again["total"], again["end"]) == (3, 3) and again["search"] != first["search"]


def test_a_file_that_cannot_be_read_does_not_hold_up_the_static_site(tmp_path):
    run = write_run(tmp_path / "run", steps=2)
    (run / "stages" / "01-grpo" / "rollouts" / "step_000003.jsonl").mkdir()
    thread = threading.Thread(target=write_site, args=(Library([run]), tmp_path / "site"), daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert "sample-0" in next((tmp_path / "site" / "rollouts").rglob("run*.html")).read_text()


def test_a_run_is_opened_once_however_many_ask(tmp_path, cache):
    run = write_run(tmp_path / "run")
    indices, found = Indices(cache), []
    asking = [threading.Thread(target=lambda: found.append(indices.of(run))) for _ in range(6)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert len(found) == 6 and len({id(one) for one in found}) == 1
