"""The frames of a group: those that the model saw, found by digest and number."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from easyvideor1.evaluation.gallery import strips
from easyvideor1.types import Effect, Frames, Geometry, MediaPlan
from easyvideor1.video import FrameStore, HealthLedger, window
from easyvideor1.video.effects import make_effect
from easyvideor1.viewer.app import build_app
from easyvideor1.viewer.library import Library

from .runs import group, stored, write_run, write_step

DIGEST = "ab" * 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))


def seeded(count=6, side=64):
    plan = MediaPlan(
        kind="video",
        fingerprint="f",
        frame_indices=tuple(range(0, 2 * count, 2)),
        timestamps=tuple(i / 2 for i in range(count)),
        height=side,
        width=side,
        grid=(count // 2, side // 16, side // 16),
        tokens=count // 2 * (side // 32) ** 2,
        source_fps=4.0,
        sample_fps=2.0,
        digest=DIGEST,
    )
    return Frames(np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8), plan)


def browser(tmp_path, media, store=True):
    frames = seeded()
    if store:
        FrameStore(tmp_path / "frames").put(frames)
    run = write_run(tmp_path / "runs" / "mine", steps=0, config=f"cache:\n  dir: {tmp_path / 'frames'}\n")
    write_step(run, 1, [group(0, media=(media,))])
    return TestClient(build_app(Library([tmp_path / "runs"])), base_url="http://127.0.0.1"), frames


def pixels(answer):
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    return np.asarray(Image.open(io.BytesIO(answer.content)))


PAGE = "/rollouts/mine/01-grpo/1/0"


def test_every_frame_is_the_one_that_was_stored(tmp_path):
    client, frames = browser(tmp_path, stored(seeded()))
    page = client.get(PAGE).text
    for number in range(6):
        assert f'src="/frames/mine/{DIGEST}/{number}"' in page and f"{number / 2:.2f} s" in page
        assert np.array_equal(pixels(client.get(f"/frames/mine/{DIGEST}/{number}")), frames.pixels[number])
        assert np.array_equal(pixels(client.get(f"/frames/mine/{DIGEST}/{number}?size=large")), frames.pixels[number])
    assert client.get(f"/frames/mine/{DIGEST}/6").status_code == 404


def test_frames_of_a_page_that_was_not_shown_are_not_served(tmp_path):
    client, _ = browser(tmp_path, stored(seeded()))
    assert client.get(f"/frames/mine/{DIGEST}/0").status_code == 404


def test_a_part_has_the_frames_of_its_places(tmp_path):
    frames = seeded()
    part = window(frames.plan, 2, 3, Geometry())
    media = replace(stored(Frames(frames.pixels[4:6], part)), part_of=DIGEST)
    client, _ = browser(tmp_path, media)
    client.get(PAGE)
    for number in range(2):
        found = pixels(client.get(f"/frames/mine/{part.digest}/{number}"))
        assert np.array_equal(found, frames.pixels[4 + number])


def test_effects_are_applied_again(tmp_path):
    effect = make_effect("mask_frames", frames=(0, 3))
    client, frames = browser(tmp_path, replace(stored(seeded()), digest="cd" * 32, part_of=DIGEST, effects=(effect,)))
    assert "1 effect applied" in client.get(PAGE).text
    for number in range(6):
        expected = np.zeros_like(frames.pixels[0]) if number in (0, 3) else frames.pixels[number]
        assert np.array_equal(pixels(client.get(f"/frames/mine/{'cd' * 32}/{number}")), expected)


def test_an_effect_that_is_not_there_any_more_is_told(tmp_path):
    media = replace(stored(seeded()), digest="cd" * 32, part_of=DIGEST, effects=(Effect("gone"),))
    client, _ = browser(tmp_path, media)
    assert client.get(PAGE).status_code == 200
    answer = client.get(f"/frames/mine/{'cd' * 32}/0")
    assert answer.status_code == 410 and "gone" in answer.text


def test_code_that_a_run_names_is_not_imported(tmp_path):
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    media = replace(
        stored(seeded()), digest="cd" * 32, part_of=DIGEST, effects=(Effect(f"{tmp_path / 'own.py'}:paint"),)
    )
    client, _ = browser(tmp_path, media)
    assert "which is not run here" in client.get(PAGE).text
    assert client.get(f"/frames/mine/{'cd' * 32}/0").status_code == 404
    assert not (tmp_path / "imported").exists()


def test_code_that_a_record_names_is_imported_only_if_it_is_trusted(tmp_path, monkeypatch):
    (tmp_path / "own_paint.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    frames = seeded()
    media = replace(stored(frames), digest="cd" * 32, part_of=DIGEST, effects=(Effect("own_paint:paint"),))
    (strip,) = strips([media], lambda digest: frames)
    assert "which is not run here" in strip.missing and not (tmp_path / "imported").exists()
    (strip,) = strips([media], lambda digest: frames, own_code=True)
    assert "has no 'paint'" in strip.missing and (tmp_path / "imported").exists()


def test_a_store_without_the_frames_says_so(tmp_path):
    client, _ = browser(tmp_path, stored(seeded()), store=False)
    assert "The frame store of this run is not there" in client.get(PAGE).text
    (tmp_path / "frames").mkdir()
    assert "does not have these frames any more" in client.get(PAGE).text


def test_media_that_nobody_saw_say_so(tmp_path):
    client, _ = browser(tmp_path, replace(stored(seeded()), digest="", frame_indices=(), timestamps=()))
    assert "The model saw nothing of this file." in client.get(PAGE).text


def test_a_digest_that_is_none_leads_nowhere(tmp_path):
    client, _ = browser(tmp_path, replace(stored(seeded()), digest="../../../etc/passwd"))
    assert "The frames cannot be read" in client.get(PAGE).text


def test_a_damaged_entry_is_told_and_stays_where_it_is(tmp_path):
    client, _ = browser(tmp_path, stored(seeded()))
    (entry,) = (tmp_path / "frames").rglob("*.safetensors")
    content = bytearray(entry.read_bytes())
    content[-1] ^= 255
    entry.write_bytes(content)
    client.get(PAGE)
    answer = client.get(f"/frames/mine/{DIGEST}/0")
    assert answer.status_code == 410 and "is damaged" in answer.text
    assert entry.exists() and list(HealthLedger(tmp_path / "frames" / "health.jsonl").entries()) == []


def test_looking_does_not_count_as_use(tmp_path):
    import os

    client, _ = browser(tmp_path, stored(seeded()))
    (entry,) = (tmp_path / "frames").rglob("*.safetensors")
    os.utime(entry, (1e9, 1e9))
    client.get(PAGE)
    assert client.get(f"/frames/mine/{DIGEST}/0").status_code == 200
    assert entry.stat().st_atime == 1e9
