"""Draw the pictures of docs/concepts as SVG files.

    python scripts/draw_concepts.py          # write them
    python scripts/draw_concepts.py --check  # exit with 1 if a file differs

Every picture has a ground of its own, and its colours follow the reader's light or dark setting. So it is readable on a
page of either kind, also where page and setting differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

OUT = Path(__file__).parents[1] / "docs" / "concepts" / "images"
WIDTH = 800
#: Width of a character over the size of the font, on the safe side for what a browser without our fonts takes.
CHARACTER = 0.56

STYLE = """
.ground{fill:#fbfbfd}.ink{fill:#1d2433}.dim{fill:#5a6478}.line{stroke:#5a6478;fill:none;stroke-width:1.5}
.head{fill:#5a6478}.plain{fill:#eef0f5;stroke:#9aa3b5}.blue{fill:#d8e6fd;stroke:#3b72c4}.green{fill:#d6f0dd;stroke:#2f8a4e}
.red{fill:#fbdcdc;stroke:#c0464b}.gold{fill:#fbeccb;stroke:#a97a14}.thin{stroke:#9aa3b5;stroke-width:1}
@media (prefers-color-scheme: dark){
.ground{fill:#1c2029}.ink{fill:#e8ebf2}.dim{fill:#a4adbf}.line{stroke:#a4adbf}.head{fill:#a4adbf}
.plain{fill:#2a303d;stroke:#6d778c}.blue{fill:#20385f;stroke:#6fa3f2}.green{fill:#1d4230;stroke:#62bd83}
.red{fill:#512a2e;stroke:#e2797e}.gold{fill:#4a3b17;stroke:#dcae4c}.thin{stroke:#6d778c}}
text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
.mono{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
"""


class Picture:
    """An SVG picture of ``WIDTH`` by ``height`` with what is drawn into it so far. Lengths are in pixels."""

    def __init__(self, height: int, title: str) -> None:
        self.height = height
        self.title = title
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 14,
        kind: str = "ink",
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Words on the baseline ``y``. ``kind``: ink, dim, and mono beside them."""
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" class="{kind}" text-anchor="{anchor}"{weight} '
            f'xml:space="preserve">{escape(words)}</text>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, lines: Sequence[str] = (), *, kind: str = "plain"
    ) -> None:
        """A box with lines of text in its middle, the first one bold if there are several.

        Raises:
            ValueError: a line is wider than the box, or the lines are higher.
        """
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>')
        step = 18
        if len(lines) * step > height:
            raise ValueError(f"{self.title}: {lines} do not fit into a box {height:g} high")
        top = y + height / 2 - (len(lines) - 1) * step / 2 + 5
        for index, line in enumerate(lines):
            size = 14 if index == 0 else 12.5
            if len(line) * size * CHARACTER > width - 6:
                raise ValueError(f"{self.title}: {line!r} is wider than its box of {width:g}")
            shade = "ink" if index == 0 else "dim"
            bold = index == 0 and len(lines) > 1
            self.text(x + width / 2, top + index * step, line, size=size, kind=shade, anchor="middle", bold=bold)

    def arrow(self, *points: tuple[float, float], both: bool = False) -> None:
        """A line through points with a head at its end, or at both ends."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        start = ' marker-start="url(#tip)"' if both else ""
        self.parts.append(f'<polyline points="{path}" class="line"{start} marker-end="url(#tip)"/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, *, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self.parts.append(f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="thin"{dash}/>')

    def svg(self) -> str:
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" '
            f'height="{self.height}" role="img" aria-label="{escape(self.title)}">\n<title>{escape(self.title)}</title>'
            f'\n<style>{STYLE}</style>\n<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" '
            f'markerHeight="8" orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" class="head"/></marker></defs>\n'
            f'<rect width="{WIDTH}" height="{self.height}" rx="10" class="ground"/>\n{body}\n</svg>\n'
        )


def frames_and_plans() -> Picture:
    """The numbers are those of the snippet on the page: 10 s of 640x360 at 25 frames a second, fps 2, Qwen3-VL."""
    picture = Picture(330, "From the frames of a video to visual tokens")
    left, width = 30, 740
    picture.text(left, 34, "the video: 250 frames in 10 seconds", bold=True)
    for frame in range(250):
        x = left + frame * width / 250
        picture.parts.append(f'<line x1="{x:g}" y1="46" x2="{x:g}" y2="60" class="thin"/>')
    picture.text(left, 140, "the plan reads 20 of them, and knows their true times", bold=True)
    chosen = [round(place * 249 / 19) for place in range(20)]
    for number, frame in enumerate(chosen):
        x = left + frame * width / 250
        kind = "blue" if number // 2 % 2 == 0 else "gold"
        picture.line(x + 1, 60, left + 4 + number * 37 + 15, 92)
        picture.box(left + 2 + number * 37, 92, 32, 26, kind=kind)
    picture.text(left, 170, "two neighbours are one temporal step: 10 steps", bold=True)
    for step in range(10):
        picture.box(left + 2 + step * 74, 180, 69, 26, [f"{step}"], kind="blue" if step % 2 == 0 else "gold")
    picture.text(left, 234, "one step: the picture is resized to 640 x 352, and cut into", kind="dim", size=13)
    picture.text(left, 254, "blocks of 32 x 32 pixels; each block is one token", kind="dim", size=13)
    for row in range(11):
        for column in range(20):
            x, y = 420 + column * 8, 216 + row * 8
            picture.parts.append(f'<rect x="{x}" y="{y}" width="7" height="7" class="blue" stroke-width="0.5"/>')
    picture.text(596, 250, "20 x 11 = 220 tokens", bold=True)
    picture.text(596, 272, "10 steps: 2,200 tokens", bold=True)
    picture.text(596, 294, "known before decoding", kind="dim", size=13)
    return picture


def shared_prefixes() -> Picture:
    picture = Picture(310, "One pass over the video for all responses of a group")
    picture.text(30, 32, "separate: the prompt is computed once per response", bold=True)
    for row in range(4):
        y = 44 + row * 24
        picture.box(30, y, 420, 19, ["video and question"] if row == 0 else [], kind="blue")
        picture.box(452, y, 60 + 25 * (row % 3), 19, kind=("green", "red", "gold", "red")[row])
    picture.text(600, 66, "8 x (1,012 + 64)", kind="dim", size=13)
    picture.text(600, 86, "= 8,608 tokens", bold=True)
    picture.text(600, 112, "and 8 passes of", kind="dim", size=13)
    picture.text(600, 130, "the vision tower", kind="dim", size=13)
    picture.line(30, 156, 770, 156, dashed=True)
    picture.text(30, 184, "shared: the prompt once, then its branches", bold=True)
    picture.box(30, 216, 420, 28, ["video and question"], kind="blue")
    for row in range(4):
        y = 196 + row * 24
        picture.box(490, y, 60 + 25 * (row % 3), 19, kind=("green", "red", "gold", "red")[row])
        picture.arrow((450, 230), (488, y + 9))
    picture.text(630, 216, "1,012 + 8 x 64", kind="dim", size=13)
    picture.text(630, 236, "= 1,524 tokens", bold=True)
    picture.text(630, 262, "a response sees its", kind="dim", size=13)
    picture.text(630, 280, "prompt and itself", kind="dim", size=13)
    return picture


def row_to_reward() -> Picture:
    picture = Picture(410, "From a row to a reward")
    boxes = [
        ("Sample", "a row, checked"),
        ("MediaPlan", "frames, tokens"),
        ("Prompt", "token ids"),
        ("Trajectory", "what was said"),
        ("Score", "what it earned"),
    ]
    for number, (name, what) in enumerate(boxes):
        x = 24 + number * 154
        picture.box(x, 24, 130, 52, [name, what], kind="blue" if number < 4 else "green")
        if number:
            picture.arrow((x - 24, 50), (x - 2, 50))
    picture.text(30, 112, "the response", bold=True)
    picture.box(30, 122, 740, 40)
    picture.text(44, 147, "I see it from 0.5 s on.", kind="ink mono", size=13)
    picture.box(232, 128, 440, 28, kind="gold")
    picture.text(240, 147, '<answer> {"time": [0.5, 1.75]} </answer>', kind="ink mono", size=13)
    picture.arrow((450, 162), (450, 190))
    picture.text(466, 182, "parse: the span, or why there is none", kind="dim", size=13)
    picture.box(30, 194, 350, 54, ["parsed: from 0.5 to 1.75 s", "found in the tag"], kind="gold")
    picture.box(420, 194, 350, 54, ["reference: from 0.25 to 1.75 s", "checked when the row was read"], kind="plain")
    picture.arrow((205, 248), (205, 280))
    picture.arrow((595, 248), (595, 262), (300, 262), (300, 280))
    picture.box(30, 282, 350, 54, ["accuracy 1.25 / 1.50 = 0.833", "the rule of temporal_grounding: IoU"], kind="green")
    picture.box(420, 282, 350, 54, ["format 1", "one closed tag with a readable span"], kind="green")
    picture.arrow((205, 336), (205, 356), (330, 356), (330, 370))
    picture.arrow((595, 336), (595, 356), (470, 356), (470, 370))
    picture.text(400, 392, "total = 0.9 x 0.833 + 0.1 x 1 = 0.85", anchor="middle", bold=True)
    return picture


def groups_and_advantages() -> Picture:
    picture = Picture(330, "Rewards of three groups and their advantages")
    groups = [("worth asking", [1, 0, 0, 1, 0, 0, 0, 0]), ("too hard now: flat", [0] * 8)]
    groups.append(("nearly solved", [1, 1, 1, 1, 1, 1, 0, 1]))
    for number, (name, rewards) in enumerate(groups):
        left = 30 + number * 256
        picture.text(left, 34, name, bold=True)
        picture.text(left, 60, "reward", kind="dim", size=12.5)
        for place, reward in enumerate(rewards):
            picture.box(left + place * 27, 68, 24, 24, [str(reward)], kind="green" if reward else "red")
        mean = sum(rewards) / 8
        std = (sum((reward - mean) ** 2 for reward in rewards) / 7) ** 0.5
        picture.text(left, 118, f"mean {mean:.3f}, std {std:.3f}", kind="dim", size=12.5)
        picture.text(left, 146, "advantage (r - mean) / std", kind="dim", size=12.5)
        base = 226
        picture.line(left, base, left + 213, base)
        for place, reward in enumerate(rewards):
            advantage = (reward - mean) / (std + 1e-6)
            tall = abs(advantage) * 28
            if tall > 0.5:
                top = base - tall if advantage > 0 else base
                picture.box(left + place * 27, top, 24, tall, kind="green" if advantage > 0 else "red")
        if std:
            right = next(place for place, reward in enumerate(rewards) if reward)
            wrong = next(place for place, reward in enumerate(rewards) if not reward)
            up, down = (1 - mean) / std, -mean / std
            picture.text(left + right * 27, base - up * 28 - 6, f"+{up:.2f}", size=12.5)
            picture.text(left + wrong * 27 - 4, base - down * 28 + 16, f"{down:.2f}", size=12.5)
        else:
            picture.text(left, base - 10, "all 0: nothing to learn from,", kind="dim", size=12.5)
            picture.text(left, base + 18, "so the group is left out", kind="dim", size=12.5)
    return picture


def mismatch_and_staleness() -> Picture:
    picture = Picture(330, "Engine and trainer, one step ahead")
    picture.text(24, 84, "engine", bold=True)
    picture.text(24, 174, "trainer", bold=True)
    for step in range(4):
        x = 106 + step * 168
        picture.box(x, 54, 150, 50, [f"generate {step}", f"with weights {max(0, step - 1)}"], kind="blue")
    for step in range(3):
        x = 274 + step * 168
        picture.box(x, 144, 150, 50, [f"update {step}", f"weights {step} to {step + 1}"], kind="gold")
        picture.arrow((x - 48, 104), (x - 48, 124), (x + 40, 124), (x + 40, 142))
        if step < 2:
            picture.arrow((x + 150, 169), (x + 159, 169), (x + 159, 79), (x + 166, 79))
    picture.text(106, 32, "time", kind="dim", size=12.5)
    picture.arrow((140, 28), (770, 28))
    picture.line(24, 214, 776, 214, dashed=True)
    picture.text(24, 240, "rho = pi(trainer) / pi(engine), for every token", kind="ink mono", size=13)
    picture.box(24, 254, 366, 60, ["mismatch", "same weights, other arithmetic"], kind="green")
    picture.box(410, 254, 366, 60, ["staleness", "responses of older weights"], kind="gold")
    return picture


def ranks_and_the_driver() -> Picture:
    picture = Picture(390, "The first rank drives, the others compute")
    picture.box(24, 24, 330, 232)
    picture.text(40, 50, "rank 0: the process that you start", bold=True)
    names = [
        "rows, samples, prompts",
        "rollouts: the engine, or workers",
        "scores and advantages",
        "plan of the update",
    ]
    for number, name in enumerate(names):
        picture.box(40, 62 + number * 36, 298, 30, [name], kind="blue")
    picture.box(40, 208, 298, 36, ["its part of the policy"], kind="gold")
    for rank in range(3):
        y = 24 + rank * 82
        picture.box(560, y, 216, 66, [f"rank {rank + 1}", "its part of the policy"], kind="gold")
        picture.arrow((356, 100 + rank * 36), (558, y + 24))
        picture.arrow((558, y + 46), (356, 118 + rank * 36))
    picture.text(364, 28, "token ids, plans, numbers", kind="dim", size=12.5)
    picture.text(364, 45, "per token; never pixels", kind="dim", size=12.5)
    picture.text(372, 262, "log-probs, sums of metrics", kind="dim", size=12.5)
    picture.box(24, 314, 752, 52, ["frame store", "every rank reads the frames of its share by itself"], kind="green")
    picture.arrow((189, 312), (189, 258))
    picture.arrow((668, 312), (668, 258))
    return picture


def frame_cache() -> Picture:
    picture = Picture(390, "From a video file to an entry of the frame store")
    picture.box(24, 30, 150, 58, ["door.mp4", "any path or name"])
    picture.arrow((174, 59), (218, 59))
    picture.text(176, 22, "probe: packets, no pixels", kind="dim", size=12.5)
    picture.box(220, 30, 190, 58, ["MediaInfo", "content hash, true times"], kind="blue")
    picture.box(220, 124, 190, 58, ["budget and geometry", "fps, pixels, patch size"])
    picture.arrow((410, 59), (478, 94))
    picture.arrow((410, 153), (478, 118))
    picture.box(480, 78, 296, 58, ["MediaPlan", "frames, size, tokens; its digest"], kind="blue")
    picture.arrow((628, 136), (628, 208))
    picture.text(614, 176, "missing: decode in a worker", kind="dim", size=12.5, anchor="end")
    picture.text(614, 194, "with a deadline; there: read", kind="dim", size=12.5, anchor="end")
    picture.box(480, 210, 296, 58, ["3f/3f9c...safetensors", "uint8 pixels, the plan, checksums"], kind="green")
    picture.box(24, 210, 386, 58, ["health ledger", "what failed, why, and under which deadline"], kind="red")
    picture.arrow((480, 239), (412, 239))
    for number, name in enumerate(("rollout", "training", "evaluation")):
        x = 480 + number * 102
        picture.box(x, 324, 92, 36, [name])
        picture.arrow((x + 46, 268), (x + 46, 322))
    picture.text(24, 338, "another path: the same entry. A replaced file,", kind="dim", size=13)
    picture.text(24, 358, "another budget, another model: another entry.", kind="dim", size=13)
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    "frames_and_plans": frames_and_plans,
    "shared_prefixes": shared_prefixes,
    "row_to_reward": row_to_reward,
    "groups_and_advantages": groups_and_advantages,
    "mismatch_and_staleness": mismatch_and_staleness,
    "ranks_and_the_driver": ranks_and_the_driver,
    "frame_cache": frame_cache,
}


def main(arguments: Sequence[str]) -> int:
    check = list(arguments) == ["--check"]
    if arguments and not check:
        raise SystemExit(__doc__)
    different = []
    for name, draw in PICTURES.items():
        path = OUT / f"{name}.svg"
        new = draw().svg()
        if not path.is_file() or path.read_text(encoding="utf-8") != new:
            different.append(path.name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(new, encoding="utf-8")
    if check and different:
        print(f"not as drawn now: {', '.join(different)}; run scripts/draw_concepts.py", file=sys.stderr)
    return int(check and bool(different))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
