"""Every kind's answer is derived anew from the scene, or run, and compared."""

import json
import math
import re
import xml.etree.ElementTree as ET

import pytest

from easyvideor1.toyworld import COLOURS, Scene, WorldSpec
from easyvideor1.toyworld.plan import plan_world

WORLD = [
    (row, {clip.id: clip.scene for clip in planned.clips}.get(row["clip"]))
    for planned in plan_world(WorldSpec(seed=3, train=320, validation=0, test=0, bare_share=0.0))
    for row in planned.rows
]


def asked(*kinds: str) -> list[tuple[dict, Scene]]:
    found = [(row, scene) for row, scene in WORLD if row["kind"] in kinds]
    assert len(found) >= 8
    return found


def named(scene: Scene, text: str):
    """The one body of the scene that the text names."""
    (body,) = [body for body in scene.bodies if body.name in text]
    return body


def test_choices() -> None:
    for row, scene in asked("mc_direction", "mc_colour", "mc_shape", "mc_moving_colour"):
        right = {option[0]: option[3:] for option in row["options"]}[row["answer"]]
        text = row["problem"]
        if row["kind"] == "mc_direction":
            assert named(scene, text).motion == right
        elif row["kind"] == "mc_colour":
            assert [body.colour for body in scene.bodies if body.shape in text] == [right]
        elif row["kind"] == "mc_shape":
            assert [body.shape for body in scene.bodies if body.colour in text] == [right]
        else:
            assert len(scene.bodies) >= 2
            assert [body.colour for body in scene.bodies if f"moving {body.motion}?" in text] == [right]


def test_yes_and_no() -> None:
    for row, scene in asked("yes_direction", "yes_colour"):
        if row["kind"] == "yes_direction":
            truth = f"move {named(scene, row['problem']).motion}?" in row["problem"]
        else:
            truth = any(f" {body.colour} " in row["problem"] for body in scene.bodies)
        assert row["answer"] == ("Yes" if truth else "No")


def test_numbers() -> None:
    for row, scene in asked("count", "math_product", "math_fraction"):
        number = len(scene.bodies)
        if row["kind"] == "count":
            assert row["answer"] == str(number)
        elif row["kind"] == "math_product":
            assert int(row["answer"]) == number * int(re.search(r"\$(\d)n\$", row["problem"])[1])
        else:
            below = int(re.search(r"\\frac\{n\}\{(\d+)\}", row["problem"])[1])
            assert row["answer"] == f"\\frac{{{number}}}{{{below}}}"
            assert math.gcd(number, below) == 1


def test_text_only_arithmetic() -> None:
    for row, scene in asked("math_text"):
        assert scene is None
        pace, time = map(int, re.findall(r"\d+", row["problem"]))
        assert row["answer"] == str(pace * time)


def test_measures() -> None:
    for row, scene in asked("distance", "speed"):
        body = named(scene, row["problem"])
        (x1, y1), (x2, y2) = body.centre_at(0), body.centre_at(scene.times[-1])
        way = 100 * math.hypot(x2 - x1, y2 - y1) / scene.width
        expected = way if row["kind"] == "distance" else way / scene.times[-1]
        assert float(row["answer"]) == pytest.approx(expected, abs=0.51)
        assert row["kind"] == "speed" or all(body.visible_at(t) for t in scene.times)


def test_times_and_boxes() -> None:
    for row, scene in asked("temporal", "tube", "track"):
        body, answer = named(scene, row["problem"]), json.loads(row["answer"])
        shown = [t for t in scene.times if body.visible_at(t)]
        if row["kind"] != "track":
            start, end = answer["time"]
            assert shown[0] == start
            assert shown[-1] < end <= shown[-1] + 1 / scene.fps
        if row["kind"] != "temporal":
            assert answer["boxes"]
            assert (row["coordinates"], row["box_scale"]) == ("thousand", 1000)
        for second, box in answer.get("boxes", {}).items():
            assert body.visible_at(int(second))
            assert row["kind"] == "track" or start <= int(second) < end
            truth = body.box_at(float(second))
            assert [v / 1000 * 64 for v in box] == pytest.approx(truth, abs=0.04)
        assert " " not in row["answer"]


def test_segmentation_points() -> None:
    for row, scene in asked("segment"):
        body, answer = named(scene, row["problem"]), json.loads(row["answer"])
        assert list(answer) == ["boxes", "positive_points", "negative_points"]
        assert len(answer["positive_points"]) == len(answer["negative_points"]) == 3
        for x, y in answer["positive_points"]:
            assert inside(body, x * 0.064, y * 0.064)
        for x, y in answer["negative_points"]:
            assert not any(inside(other, x * 0.064, y * 0.064) for other in scene.bodies)


def inside(body, x: float, y: float) -> bool:
    """The shapes in closed form."""
    x1, y1, x2, y2 = body.box_at(0)
    if body.shape == "circle":
        return math.hypot(x - body.x, y - body.y) <= body.size / 2
    if body.shape == "square":
        return x1 <= x <= x2 and y1 <= y <= y2
    return y1 <= y <= y2 and abs(x - body.x) <= (y - y1) / body.size * body.size / 2


def test_words() -> None:
    for row, scene in asked("open", "video_qa", "describe", "read_word"):
        if row["kind"] == "read_word":
            assert row["answer"] == scene.label.text
        elif row["kind"] == "open":
            assert row["answer"].endswith(f"moves {named(scene, row['problem']).motion}.")
        elif row["kind"] == "video_qa":
            assert named(scene, row["answer"]).motion in row["problem"]
        else:
            for body in scene.bodies:
                said = "stands still" if body.motion == "still" else f"moves {body.motion}"
                assert f"{body.name} {said}" in row["answer"]


def test_python_answers_pass_their_tests_and_wrong_ones_fail() -> None:
    for row, _ in asked("code_count", "code_position"):
        names: dict = {}
        exec(row["answer"], names)
        for test in row["tests"]:
            exec(test, names)
        wrong: dict = {}
        exec(row["answer"].replace("+", "*").replace("-", "*"), wrong)
        with pytest.raises(AssertionError):
            for test in row["tests"]:
                exec(test, wrong)


def test_svg_and_html_show_the_scene() -> None:
    for row, scene in asked("svg", "html"):
        root = ET.fromstring(row["answer"])
        if row["kind"] == "html":
            cells = [tuple(cell.text for cell in line) for line in root[1:]]
            assert cells == [(b.colour, b.shape) for b in sorted(scene.bodies, key=lambda b: b.centre_at(0)[0])]
            continue
        forms = {"circle": "circle", "rect": "square", "polygon": "triangle"}
        drawn = [(part.get("fill"), forms[part.tag.split("}")[1]]) for part in root]
        assert drawn == [(body.colour, body.shape) for body in scene.bodies]
        for part, body in zip(root, scene.bodies, strict=True):
            if body.shape == "circle":
                assert float(part.get("cx")) == pytest.approx(body.x, abs=1.1)
            elif body.shape == "square":
                assert float(part.get("x")) == pytest.approx(body.box_at(0)[0], abs=0.51)
            else:
                ys = [float(point.split(",")[1]) for point in part.get("points").split()]
                assert (min(ys), max(ys)) == pytest.approx((body.box_at(0)[1], body.box_at(0)[3]), abs=0.51)


def test_preferences_are_true_or_equally_wrong() -> None:
    for row, scene in asked("prefer"):
        said = re.findall(r"Response \d: An? (\w+) (\w+) (moves \w+|stands still)\.", row["problem"], re.IGNORECASE)
        assert len(said) == 2
        facts = {
            (b.colour, b.shape, "stands still" if b.motion == "still" else f"moves {b.motion}") for b in scene.bodies
        }
        true = [one in facts for one in said]
        assert row["answer"] == {(True, False): "1", (False, True): "2", (False, False): "tie"}[tuple(true)]
        assert sum(a != b for a, b in zip(*said, strict=True)) == 1  # one word apart, tie or not


def test_colour_words_start_with_a_consonant() -> None:
    assert not [name for name in COLOURS if name[0] in "aeiou"]
