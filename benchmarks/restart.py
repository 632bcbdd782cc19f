"""What a start costs before its first step when nothing has changed: ``python -m benchmarks.restart [--rows N]``.

20,000 rows of all task types ask about 1,000 clips of a minute and 1,000 pictures. Three processes start over them, one
after the other: ``first``, which probes every file and checks every row; ``probed``, which knows the files and none of
the rows, as every start was before checks of rows were remembered; and ``again``, which finds everything as it was.
Seconds go from the opened tokenizer to rows that are read and checked and media that are planned; no frame is decoded.
``benchmarks.scoring`` runs this too. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from PIL import Image

from easyvideor1.components import Components
from easyvideor1.config import RunConfig
from easyvideor1.data import CHECK_CACHE_NAME
from easyvideor1.families.tiny import write_tiny_checkpoint
from easyvideor1.toyworld.plan import plan_world
from easyvideor1.toyworld.spec import WorldSpec

ROWS = 20_000
MEDIA = 1_000
_SIDE, _FPS, _SECONDS = 64, 25, 60


def measure(rows: int = ROWS, media: int = MEDIA) -> dict[str, float]:
    """Seconds of the three starts, and the ratios of the last to the two before it."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(place, rows, media)
        time.sleep(3)  # a file is remembered once a further change of it would show in its times
        first = _start(place)
        (place / "frames" / CHECK_CACHE_NAME).unlink()
        probed = _start(place)
        again = _start(place)
    return {
        f"restart_{rows}_rows_first_s": round(first, 2),
        f"restart_{rows}_rows_probed_s": round(probed, 2),
        f"restart_{rows}_rows_again_s": round(again, 2),
        f"restart_{rows}_rows_s": round(again / first, 4),  # as a share of the first start
        f"restart_{rows}_rows_ratio_to_probed": round(again / probed, 4),
    }


def write(place: Path, rows: int, media: int) -> None:
    """A source of ``rows`` rows over ``media`` clips and as many pictures, and a checkpoint that knows its words."""
    (place / "media").mkdir()
    clip = _clip(place / "clip.mp4")
    for number in range(media):
        # An empty box at the end makes every clip another file with the same frames.
        box = struct.pack(">I4sQ", 16, b"free", number)
        (place / "media" / f"{number}.mp4").write_bytes(clip + box)
        pixels = np.full((_SIDE, _SIDE, 3), number % 256, np.uint8)
        pixels[0, 0] = number // 256
        Image.fromarray(pixels).save(place / "media" / f"{number}.png")
    (split, *_) = plan_world(WorldSpec(seed=0, train=rows, validation=0, test=0))
    lines = []
    for number, row in enumerate(split.rows):
        at = number % media
        own = {"videos": [f"media/{at}.mp4"]} if row["videos"] else {}
        own |= {"images": [f"media/{at}.png"]} if row["images"] else {}
        lines.append(json.dumps({**row, **own}) + "\n")
    (place / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    corpus = [row["problem"] for row in split.rows[:200]] + ["<0.5 seconds>" * 9]
    write_tiny_checkpoint(place / "model", corpus, width=64, layers=1, vision_layers=1, vocabulary=700)


def _clip(path: Path) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=_FPS)
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((_SIDE, _SIDE, 3), 128, np.uint8), format="rgb24")
        for number in range(_FPS * _SECONDS):
            grey.pts = number
            container.mux(stream.encode(grey))
        container.mux(stream.encode())
    return path.read_bytes()


def _start(place: Path) -> float:
    """Seconds of one start, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.restart", "--start", str(place)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def start(place: Path) -> float:
    """Seconds of one start over what ``write`` wrote, in this process."""
    values = {
        "model": {"path": str(place / "model")},
        "data": {"train": [{"path": str(place / "rows.jsonl")}]},
        "cache": {"dir": str(place / "frames"), "mode": "decode_only"},
    }
    with Components.open(RunConfig.model_validate(values)) as components:
        _ = components.family
        begun = time.monotonic()
        loaded = components.load_sources(components.config.data.train)
        components.without_failed(loaded, components.fill_cache(loaded))
        return time.monotonic() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--media", type=int, default=MEDIA, help="clips, and as many pictures")
    parser.add_argument("--start", type=Path, help="make one start over this directory; the benchmark calls itself so")
    options = parser.parse_args()
    if options.start is not None:
        print(start(options.start))
    else:
        print(json.dumps({"benchmark": "restart", **measure(options.rows, options.media)}))


if __name__ == "__main__":
    main()
