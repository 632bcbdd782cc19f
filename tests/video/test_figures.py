from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1 import video
from easyvideor1.video.codecs import Codec
from easyvideor1.video.figures import codec_figures

from .clips import plan_clip, write_clip


@pytest.mark.parametrize(("codec", "most", "exact"), [("raw", 0.30, True), ("zstd", 0.15, True), ("jpeg", 0.15, False)])
def test_figures_are_those_of_the_store(tmp_path: Path, codec: Codec, most: float, exact: bool) -> None:
    path = write_clip(tmp_path / "a.mp4", 20)
    frames = video.decode(path, plan_clip(path))
    found = codec_figures(frames, tmp_path / "store", codec, repeats=2, threads=2)
    (file,) = video.FrameStore(tmp_path / "store").files()
    assert found.bytes == file.size
    assert found.of_float32 == file.size / frames.pixels.nbytes / 4 <= most
    assert (found.psnr == float("inf")) == exact
    assert found.psnr >= 40
    assert min(found.write, found.checked, found.read) > 0
