"""Golden files: how they are written and read, and where two of them differ."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Characters of a text, and numbers of a list, that are shown around the place where two differ.
_CHARACTERS, _NUMBERS = 40, 8
#: Keys that hold digests of floats; without exact floats they say nothing.
_DIGESTS = ("sha256",)
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far floats may lie apart: by `absolute` plus `relative` times the recorded one."""

    absolute: float
    relative: float

    def __str__(self) -> str:
        return f"within {self.absolute:g} + {self.relative:g} times the value"

    def holds(self, recorded: float, found: float) -> bool:
        if not (math.isfinite(recorded) and math.isfinite(found)):
            return repr(recorded) == repr(found)
        return abs(recorded - found) <= self.absolute + self.relative * abs(recorded)


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where a golden file and what was found part."""

    key: str
    recorded: str
    found: str

    @property
    def owner(self) -> str:
        """The key of the record or the list that the place belongs to."""
        return max(self.key.rpartition(" > ")[0], self.key.rpartition("[")[0], key=len)

    def __str__(self) -> str:
        return f"  {self.key}\n    recorded {self.recorded}\n    found    {self.found}"


def write(path: Path, made_with: dict[str, str], content: Any) -> None:
    """Write a golden file; equal contents give equal bytes."""
    text = json.dumps({"made_with": made_with, "content": content}, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode("utf-8", "surrogatepass"), 9, mtime=0))


def read(path: Path) -> tuple[dict[str, str], Any]:
    """What a golden file was made with, and its content."""
    data = json.loads(gzip.decompress(path.read_bytes()).decode("utf-8", "surrogatepass"))
    return data["made_with"], data["content"]


def read_lines(path: Path) -> list[Any]:
    """The records of a file of JSON lines. Only a line feed ends a line: texts may hold other breaks."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def differences(recorded: Any, found: Any, tolerance: Tolerance | None, key: str = "") -> Iterator[Difference]:
    """Every place where two contents differ, in order.

    Texts, integers, truth values and shapes must be the same; floats too, unless there is a tolerance. Then digests of
    floats are passed over.
    """
    if isinstance(recorded, dict) and isinstance(found, dict):
        for name in dict.fromkeys((*recorded, *found)):
            if tolerance is not None and name in _DIGESTS:
                continue
            pair = recorded.get(name, _ABSENT), found.get(name, _ABSENT)
            yield from differences(*pair, tolerance, f"{key} > {name}" if key else str(name))
    elif isinstance(recorded, list) and isinstance(found, list) and _of_ints(recorded) and _of_ints(found):
        if recorded != found:
            yield _where(key, recorded, found)
    elif isinstance(recorded, list) and isinstance(found, list):
        for index in range(max(len(recorded), len(found))):
            pair = tuple(side[index] if index < len(side) else _ABSENT for side in (recorded, found))
            yield from differences(*pair, tolerance, f"{key}[{index}]")
    elif isinstance(recorded, str) and isinstance(found, str):
        if recorded != found:
            yield _where(key, recorded, found)
    elif isinstance(recorded, float) and isinstance(found, float) and tolerance is not None:
        if not tolerance.holds(recorded, found):
            yield Difference(
                key, repr(recorded), f"{found!r}, {found - recorded:+.3g} from it; accepted is {tolerance}"
            )
    elif repr(recorded) != repr(found):  # NaN is NaN here, and True is not 1
        yield Difference(key, _shown(recorded), _shown(found))


def _of_ints(values: list[Any]) -> bool:
    return all(type(value) is int for value in values)


def _where(key: str, recorded: Any, found: Any) -> Difference:
    """Where two texts or two lists of integers part, with what stands around it."""
    pairs = enumerate(zip(recorded, found, strict=False))
    first = next((index for index, (a, b) in pairs if a != b), min(len(recorded), len(found)))
    reach = _CHARACTERS if isinstance(recorded, str) else _NUMBERS
    around = [_excerpt(side, max(0, first - reach), first + reach) for side in (recorded, found)]
    lengths = "" if len(recorded) == len(found) else f" (length {len(recorded)}, now {len(found)})"
    return Difference(f"{key}, from position {first}{lengths}", *around)


def _excerpt(side: Any, start: int, end: int) -> str:
    cut = ("" if start == 0 else "...", "" if end >= len(side) else "...")
    return f"{cut[0]}{side[start:end]!r}{cut[1]}"


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def told(different: list[Difference], most: int) -> str:
    """Differences in words: the first of each record or list, of so many at most, and how many there are beside."""
    owners = Counter(one.owner for one in different)
    first: dict[str, Difference] = {}
    for one in different:
        first.setdefault(one.owner, one)
    lines = []
    for owner, one in list(first.items())[:most]:
        lines.append(str(one))
        if owners[owner] > 1:
            lines.append(f"    (and {owners[owner] - 1} more in {owner or 'the file'})")
    if len(first) > most:
        rest = list(first)[most:]
        last = first[rest[-1]].key
        lines.append(f"  ... and {sum(owners[owner] for owner in rest)} more places, the last of them {last}")
    return "\n".join(lines)
