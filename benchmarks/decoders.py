"""Decoders to compare, each in its own process with one thread: ours, and the backends of qwen-vl-utils.

``python -m benchmarks.decoders NAME`` runs one of them: JSON lines in (``{"path"}``) and out (``{"wall", "cpu",
"frames", "shape"}`` or ``{"error"}``). All turn a path into resized frames under the same limits. The caller touches
the file before each request, so that no cache of its description applies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

#: Ours first; the others are reader backends of qwen-vl-utils.
OURS = "easyvideor1"
PEERS = ("torchcodec", "decord", "torchvision")

FPS, MAX_FRAMES, MAX_PIXELS = 2.0, 128, 262_144
#: The default of qwen-vl-utils: 128 tokens of 32 x 32 pixels.
MIN_PIXELS = 128 * 32 * 32

Decode = Callable[[str], tuple[int, ...]]


class DecoderError(Exception):
    """A decoder cannot be used here, or could not read a file; the message says why."""


class Decoder:
    """A child process that decodes. Use it as a context manager.

    Raises:
        DecoderError: it does not start; the message gives the reason.
    """

    def __init__(self, name: str, libraries: Path | None = None) -> None:
        self.name = name
        self.frames = 0
        self.shape: tuple[int, ...] = ()
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHCODEC_NUM_THREADS"), "1")
        paths = [str(libraries)] if libraries else []
        paths += [os.environ["LD_LIBRARY_PATH"]] if os.environ.get("LD_LIBRARY_PATH") else []
        environment = {**os.environ, **single, "LD_LIBRARY_PATH": os.pathsep.join(paths)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decoders", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=Path(__file__).parents[1],
        )
        try:
            self._answer()
        except DecoderError:
            self.close()
            raise

    def decode(self, path: Path) -> tuple[float, float]:
        """Seconds, by the clock and of the processor, from a path to frames."""
        assert self._process.stdin is not None
        os.utime(path)
        self._process.stdin.write(json.dumps({"path": str(path)}) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.frames, self.shape = answer["frames"], tuple(answer["shape"])
        return answer["wall"], answer["cpu"]

    def decode_all(self, paths: list[Path]) -> tuple[float, float]:
        """The sums over some files; ``frames`` is then that of all of them."""
        wall = cpu = 0.0
        frames = 0
        for path in paths:
            seconds = self.decode(path)
            wall, cpu, frames = wall + seconds[0], cpu + seconds[1], frames + self.frames
        self.frames = frames
        return wall, cpu

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"exit status {self._process.wait()}"}
        if "error" in answer:
            raise DecoderError(f"{self.name}: {answer['error']}")
        return answer


def ffmpeg_libraries(directory: Path) -> Path | None:
    """A directory in which FFmpeg's shared libraries have their usual names, for torchcodec; None without any.

    Machines without FFmpeg have those that PyAV brings, under names of its own. Decoders then also share one build.
    """
    import av

    bundled = Path(av.__file__).parents[1] / "av.libs"
    if not bundled.is_dir():
        return None
    directory.mkdir(parents=True, exist_ok=True)
    for library in bundled.glob("*.so*"):
        stem, _, version = library.name.partition(".so.")
        names = [library.name]
        if library.name.startswith(("libav", "libsw")):
            names.append(f"{stem.partition('-')[0]}.so.{version.partition('.')[0]}")
        for name in names:
            link = directory / name
            link.unlink(missing_ok=True)
            link.symlink_to(library)
    return directory


def _ours() -> Decode:
    from easyvideor1.config import VideoBudget
    from easyvideor1.types import Geometry
    from easyvideor1.video import decode, plan, probe

    budget = VideoBudget(rule="qwen", fps=FPS, max_frames=MAX_FRAMES, min_pixels=MIN_PIXELS, max_pixels=MAX_PIXELS)

    def run(path: str) -> tuple[int, ...]:
        return decode(path, plan(probe(path), budget, Geometry()), threads=1).pixels.shape

    return run


def _peer(backend: str) -> Decode:
    import torch

    from easyvideor1.families.torchvision_import import import_torchvision

    import_torchvision()  # before qwen_vl_utils does, which would stumble over one that is built for another torch
    from qwen_vl_utils import vision_process

    torch.set_num_threads(1)
    read = vision_process.VIDEO_READER_BACKENDS[backend]

    def only(element: dict[str, Any]) -> Any:
        return read(element)

    # Its other reader would take over in silence when one fails.
    vision_process.VIDEO_READER_BACKENDS.update(dict.fromkeys(vision_process.VIDEO_READER_BACKENDS, only))
    vision_process.get_video_reader_backend = lambda: backend
    if backend == "torchcodec":
        from torchcodec.decoders import VideoDecoder  # noqa: F401
    elif backend == "decord":
        import decord  # noqa: F401
    elif not hasattr(vision_process.io, "read_video"):
        raise ImportError("this torchvision has no io.read_video")

    def run(path: str) -> tuple[int, ...]:
        limits = {"video": path, "fps": FPS, "max_frames": MAX_FRAMES, "max_pixels": MAX_PIXELS}
        return tuple(vision_process.fetch_video(limits, image_patch_size=16).shape)

    return run


def serve(name: str) -> None:
    """Answer requests until stdin ends. Whatever libraries print goes to stderr."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        run = _ours() if name == OURS else _peer(name)
    except (ImportError, RuntimeError, OSError) as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {str(error).splitlines()[0]}"}) + "\n")
        return
    answers.write(json.dumps({"ready": name}) + "\n")
    for line in sys.stdin:
        path = json.loads(line)["path"]
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            shape = run(path)
        except Exception as error:  # noqa: BLE001 - what a decoder cannot read is a result, and is told
            answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}) + "\n")
            continue
        taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answers.write(json.dumps({**taken, "frames": shape[0], "shape": shape}) + "\n")


if __name__ == "__main__":
    serve(sys.argv[1])
