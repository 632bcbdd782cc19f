"""What a medium *is*: a fingerprint of its content, remembered for as long as the files on disk stay the same.

A medium is one file, or a list of frames (``frame_lists``), whose version and fingerprint are those of all its frames.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from easyvideor1.types import MediaError
from easyvideor1.video.frame_lists import FrameList, is_frame_list, read_frame_list
from easyvideor1.video.versions import FileMemo, StatKey, file_error, file_key, is_settled

_FINGERPRINTS: FileMemo[str] = FileMemo(limit=1 << 20)


def stat_key(path: str, *, regular: bool = True) -> StatKey:
    """The identity of the version of a medium: of its file, or of a list and all the frames in it.

    Args:
        path: the medium.
        regular: refuse directories, pipes and devices, which could block or never end.

    Raises:
        MediaError: ``missing``, ``permission`` or ``not_a_file``, and ``unreadable`` for a list that is none.
    """
    own = file_key(path, regular=regular)
    if not is_frame_list(path):
        return own
    keys = [own, *(_frame_key(path, frame) for frame in read_frame_list(path).frames)]
    # One number for all inodes and sizes: equal sums of others must not hide an exchange of two frames.
    together = int.from_bytes(hashlib.sha256(repr(keys).encode()).digest()[:7], "big")
    return (own[0], sum(key[1] for key in keys), max(key[2] for key in keys), together, max(key[4] for key in keys))


def is_unchanged(key: StatKey) -> bool:
    """Whether a medium is still this version, and any further change would show: only then may it be remembered."""
    try:
        return stat_key(key[0]) == key and is_settled(key)
    except MediaError:
        return False


def _frame_key(path: str, frame: str) -> StatKey:
    try:
        return file_key(frame)
    except MediaError as error:
        raise MediaError(f"{path}: its frame {error}", path=path, reason=error.reason) from error


def remember_fingerprint(key: StatKey, value: str) -> None:
    """Take over what another process computed of this file version."""
    _FINGERPRINTS.get(key, lambda: value)


def fingerprint(path: str) -> str:
    """SHA-256 of the file's bytes, in hex: a copied or renamed file keeps it, a replaced file does not.

    That of a list of frames covers the bytes of every frame, their order and their times.

    Raises:
        MediaError: the file cannot be read.
    """
    key = stat_key(path, regular=False)  # decoding, which asks this too, is guarded by a deadline; probing asked before

    def read() -> str:
        if is_frame_list(path):
            return _of_frames(read_frame_list(path))
        try:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise file_error(path, error) from error

    return _FINGERPRINTS.get(key, read)


def _of_frames(frames: FrameList) -> str:
    whole = hashlib.sha256(repr(("frames/1", frames.timestamps, frames.duration)).encode())
    for frame in frames.frames:
        whole.update(bytes.fromhex(fingerprint(frame)))
    return whole.hexdigest()
