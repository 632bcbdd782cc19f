"""The text of single tokens, with the tokenizer of a run's checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from easyvideor1.evaluation.history import named_directory
from easyvideor1.records.reading import numbered, stage_directories
from easyvideor1.viewer.library import run_config, setting

NO_TOKENIZER = (
    "Tokens cannot be shown as text: neither a checkpoint of this run nor the model of its config.yaml has a "
    "tokenizer.json here."
)


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one token. Bytes of a character that the next tokens complete are shown with the last of them."""

    text: str
    special: bool


def tokenizer_of(run: Path) -> Any | None:
    """The tokenizer of the latest checkpoint of a run, else of the model of its configuration; ``None`` if there is
    none on this machine."""
    for place in _places(run):
        file = place / "tokenizer.json"
        try:
            return _open(file, file.stat().st_mtime_ns)
        except (OSError, ValueError):
            continue  # not there, or not whole: the next place may have one
    return None


def _places(run: Path) -> list[Path]:
    places = [path for stage in stage_directories(run) for path in numbered(stage / "checkpoints").values()]
    model = named_directory(run, setting(run_config(run), "model", "path"))
    return [*places[::-1], *([model] if model else [])]


@lru_cache(maxsize=4)
def _open(file: Path, changed: int) -> Any:
    """A tokenizer; ``changed`` is the time of its file, so that another one at the same place is read."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # what it raises for a file that is none is a plain Exception
        if type(error) is not Exception:
            raise
        raise ValueError(str(error)) from error


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[Piece]:
    """The text of every token; together they are the text of all of them."""
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    found: list[Piece] = []
    begun = read = 0  # the tokens from ``begun`` on are decoded together, those before ``read`` have been given
    for at, token in enumerate(ids):
        if token in special or tokenizer.id_to_token(token) is None:
            found.append(Piece(tokenizer.id_to_token(token) or f"<{token}>", True))
            begun = read = at + 1
            continue
        before = tokenizer.decode(ids[begun:read], skip_special_tokens=False)
        after = tokenizer.decode(ids[begun : at + 1], skip_special_tokens=False)
        if after.endswith("\N{REPLACEMENT CHARACTER}") and at + 1 < len(ids):
            found.append(Piece("", False))
            continue
        found.append(Piece(after[len(before) :], False))
        begun, read = read, at + 1
    return found


def text_of(tokenizer: Any, ids: Sequence[int]) -> str:
    """The text of tokens with special ones; runs of one placeholder of media are told by their number."""
    out: list[str] = []
    run: tuple[str, int] = ("", 0)
    for piece in [*pieces(tokenizer, ids), Piece("", False)]:
        if piece.special and piece.text == run[0]:
            run = (piece.text, run[1] + 1)
            continue
        if run[1]:
            out.append(run[0] if run[1] == 1 else f"{run[0]} \N{MULTIPLICATION SIGN} {run[1]}")
        run = (piece.text, 1) if piece.special else ("", 0)
        if not piece.special:
            out.append(piece.text)
    return "".join(out)
