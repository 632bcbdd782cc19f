"""Makers of broken and odd media: each writes one file into a directory and returns its path."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import av
import numpy as np
from PIL import Image

from .clips import picture, write_clip

#: Rows of the display matrix of a track, ``(a, b, c, d)``: a pixel at (x, y) is shown at (a x + c y, b x + d y).
Matrix = tuple[int, int, int, int]


def cut(path: str, *, begin: float = 0.0, end: float = 1.0) -> str:
    """Keep a part of a file, as fractions of its length."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[int(len(data) * begin) : int(len(data) * end)])
    return path


def cut_out(path: str, begin: float, end: float) -> str:
    """Remove a part from the middle of a file."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * begin)] + data[int(len(data) * end) :])
    return path


def overwrite(path: str, mark: bytes, offset: int, data: bytes) -> str:
    """Write ``data`` at ``offset`` after the first occurrence of ``mark``."""
    content = bytearray(Path(path).read_bytes())
    place = content.index(mark) + len(mark) + offset
    content[place : place + len(data)] = data
    Path(path).write_bytes(content)
    return path


def without_box(path: str, name: bytes) -> str:
    """Remove a top-level box of an mp4 file."""
    data, kept, at = Path(path).read_bytes(), b"", 0
    while at < len(data):
        size = struct.unpack(">I", data[at : at + 4])[0]
        kept += b"" if data[at + 4 : at + 8] == name else data[at : at + size]
        at += size
    Path(path).write_bytes(kept)
    return path


def noise_over(path: str, seed: int, *, share: float, header: float) -> str:
    """Change a share of a file's bytes at random places, none of them in the first ``header`` of it."""
    data = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8).copy()
    draws = np.random.default_rng(seed)
    places = draws.integers(int(len(data) * header), len(data), max(1, int(len(data) * share)))
    data[places] ^= draws.integers(1, 256, len(places), dtype=np.uint8)
    Path(path).write_bytes(data.tobytes())
    return path


def under_another_name(path: str, name: str) -> str:
    other = Path(path).with_name(name)
    Path(path).rename(other)
    return str(other)


def shown_by(path: str, matrix: Matrix) -> str:
    """Give the video track of an mp4 file a display matrix (ISO/IEC 14496-12, 8.3.2)."""
    a, b, c, d = (value << 16 for value in matrix)
    return overwrite(path, b"tkhd", 40, struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30))


def write(directory: Path, name: str, data: bytes | str) -> str:
    path = directory / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def save(directory: Path, name: str, mode: str = "RGB", size: tuple[int, int] = (64, 64)) -> str:
    """A still picture in one of Pillow's modes."""
    image = Image.fromarray(picture(0, *size))
    (image.quantize(64) if mode == "P" else image.convert(mode)).save(directory / name, quality=95)
    return str(directory / name)


def animation(directory: Path, name: str, pages: int) -> str:
    first, *others = (Image.fromarray(picture(k)) for k in range(pages))
    lossless = {"lossless": True} if name.endswith("webp") else {}
    first.save(directory / name, save_all=True, append_images=others, duration=100, **lossless)
    return str(directory / name)


def png_of_size(directory: Path, width: int, height: int) -> str:
    """A PNG that claims to be large and holds a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return write(directory, "a.png", b"\x89PNG\r\n\x1a\n" + body)


def sound(directory: Path, name: str, *, cover: bool) -> str:
    """An MP3 file, with a picture of its cover if wanted (ID3v2.3, 4.15)."""
    with av.open(str(directory / name), "w", container_options={"write_id3v2": "0", "id3v2_version": "0"}) as container:
        stream = container.add_stream("mp3", rate=16000)
        for k in range(10):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), format="s16p", layout="mono")
            frame.sample_rate, frame.pts = 16000, k * 1152
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if cover:
        jpeg = io.BytesIO()
        Image.fromarray(picture(0)).save(jpeg, "JPEG")
        frame_data = b"\0image/jpeg\0\x03\0" + jpeg.getvalue()
        frame_bytes = b"APIC" + struct.pack(">I", len(frame_data)) + b"\0\0" + frame_data
        size = bytes((len(frame_bytes) >> shift) & 127 for shift in (21, 14, 7, 0))
        (directory / name).write_bytes(b"ID3\x03\0\0" + size + frame_bytes + (directory / name).read_bytes())
    return str(directory / name)


def without_frames(directory: Path) -> str:
    """An mp4 file whose video track holds nothing."""
    path = str(directory / "a.mp4")
    with av.open(path, "w", container_options={"movflags": "frag_keyframe+empty_moov"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    return path


def two_sizes(directory: Path) -> str:
    """A transport stream in which the picture grows from 64x64 to 128x128 after ten frames."""
    first = write_clip(directory / "first.ts", 10, options={"bf": "0"})
    second = write_clip(directory / "second.ts", 10, size=(128, 128), ticks=range(10, 20), options={"bf": "0"})
    return write(directory, "a.ts", Path(first).read_bytes() + Path(second).read_bytes())


def beside_a_clip(directory: Path, name: str, text: str) -> str:
    """A text file that points at ``clip.mp4`` and ``clip.ts``, which are there."""
    write_clip(directory / "clip.mp4", 10)
    write_clip(directory / "clip.ts", 10)
    return write(directory, name, text)


def among_numbered_pictures(directory: Path) -> str:
    for k in range(3):
        Image.fromarray(picture(k)).save(directory / f"{k:03d}.png")
    return write(directory, "%03d.png", b"no picture")


def dangling_link(directory: Path) -> str:
    (directory / "a.mp4").symlink_to(directory / "gone.mp4")
    return str(directory / "a.mp4")


def pipe(directory: Path) -> str:
    os.mkfifo(directory / "a.mp4")
    return str(directory / "a.mp4")


def exif_turned(directory: Path, orientation: int) -> str:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture(0, 96, 64)).save(directory / "a.png", exif=exif)
    return str(directory / "a.png")


def sixteen_bit(directory: Path) -> str:
    grey = np.repeat(np.arange(64, dtype=np.uint16)[None] * 1024, 64, axis=0)
    Image.fromarray(grey).save(directory / "a.png")
    return str(directory / "a.png")


def with_hole(directory: Path) -> str:
    """Black on the right, nothing on the left."""
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[:, 32:, 3] = 255
    Image.fromarray(pixels).save(directory / "a.png")
    return str(directory / "a.png")
