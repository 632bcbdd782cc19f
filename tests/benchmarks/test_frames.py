"""The benchmark of frames runs from end to end, small, and what it compares is comparable."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from benchmarks.decoders import OURS, Decoder, DecoderError
from benchmarks.films import FPS, long_film, short_film
from benchmarks.steps import StepSize

from benchmarks import frames as benchmark
from easyvideor1.video import decode, plan, probe


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


def test_a_long_film_is_its_part_again_and_again(work: Path) -> None:
    """The packets come anew, but the frames are those of the part, at times that go on."""
    place = work / "long"
    path = long_film(place, 122, (160, 96))
    (part,) = place.glob("clip-*")
    info = probe(str(path))
    assert info.frame_count == 3 * 60 * FPS and info.duration == pytest.approx(180.0)
    assert np.allclose(np.diff(info.timestamps), 1 / FPS, atol=1e-4)
    with av.open(str(part)) as container:
        first = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index % 211 == 0 or index in (1799, 1800, 1801):
                assert np.array_equal(frame.to_ndarray(format="rgb24"), first[index % len(first)])
    again = path.stat().st_mtime_ns
    assert long_film(place, 122, (160, 96)).stat().st_mtime_ns == again, "made once"


def test_films_move_and_differ(work: Path) -> None:
    one, other = (short_film(work, seed, 1, (160, 96)) for seed in (1, 2))
    budget = benchmark.BUDGET.model_copy(update={"frames": 8, "min_pixels": 1024})
    pixels = [
        decode(str(path), plan(probe(str(path)), budget, benchmark.GEOMETRY)).pixels.astype(int)
        for path in (one, other)
    ]
    assert abs(pixels[0][0] - pixels[0][-1]).mean() > 2 and abs(pixels[0] - pixels[1]).mean() > 10


def test_our_decoder_serves_in_a_process_of_its_own(work: Path) -> None:
    path = short_film(work, 1, 2, (320, 192))
    with Decoder(OURS) as decoder:
        wall, cpu = decoder.decode(path)
        wanted = plan(probe(str(path)), benchmark.BUDGET, benchmark.GEOMETRY)
        assert decoder.shape == (len(wanted.frame_indices), wanted.height, wanted.width, 3)
        assert wall > 0 and cpu > 0
        assert decoder.decode_all([path, path])[0] > 0 and decoder.frames == 2 * len(wanted.frame_indices)
        missing = work / "broken.mp4"
        missing.write_bytes(b"no film")
        with pytest.raises(DecoderError, match=r"easyvideor1: .*"):
            decoder.decode(missing)
        assert decoder.decode(path)[0] > 0, "a bad file does not end the decoder"


def test_a_decoder_that_is_not_here_says_why() -> None:
    with pytest.raises(DecoderError, match="torchvision: "):
        Decoder("torchvision").close()


@pytest.mark.model
def test_the_last_line_holds_all_figures(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = benchmark.Size(
        seconds=4,
        clips=2,
        rounds=1,
        read_rounds=1,
        plans=50,
        step_rounds=1,
        step=StepSize(prompts=1, responses=2, tokens=8),
        picture=(320, 192),
        real_files=(),
    )
    monkeypatch.setattr(benchmark, "QUICK", tiny)
    result = benchmark.main(["--quick", "--work", str(work / "all")])
    out = capsys.readouterr().out.strip().splitlines()
    assert json.loads(out[-1]) == json.loads(json.dumps(result))
    goals = {
        "bytes_vs_float32",
        "near_lossless_bytes_vs_float32",
        "near_lossless_psnr_db",
        "read_vs_float32_pt",
        "read_vs_memcpy",
        "build_scaling_2_workers",
        "machine_scaling_2_processes",
        "cached_step_vs_ram_step_cpu",
        "plans_per_second",
        "cached_step_vs_ram_step",
        "decode_step_vs_cached_step",
    }
    assert all(result[goal] > 0 for goal in goals)
    for key in ("decode_vs_qwen_vl_utils", "decode_vs_qwen_vl_utils_short"):
        assert (result[key] is None) == (len(result["decode_frames_per_cpu_second"]["long"]) == 1)
    assert result["bytes_vs_float32"] <= 0.2505 and result["near_lossless_psnr_db"] > 40
    assert result["decode_frames_per_cpu_second"]["long"][OURS] > 0
    assert any(line.startswith("GRPO step") for line in out)
