"""The drawings of docs/concepts are what their script draws, and are readable where they are shown."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from scripts import draw_concepts

CONCEPTS = Path(__file__).parents[2] / "docs" / "concepts"
SVG = "{http://www.w3.org/2000/svg}"


def luminance(colour):
    """Relative luminance (WCAG 2.2) of a colour such as #1d2433."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def fills(style):
    return dict(re.findall(r"\.(\w+)\{fill:(#\w{6})", style))


def test_committed_drawings_are_those_of_the_script():
    assert draw_concepts.main(["--check"]) == 0
    assert {path.stem for path in (CONCEPTS / "images").iterdir()} == set(draw_concepts.PICTURES)


@pytest.mark.parametrize("name", draw_concepts.PICTURES)
def test_nothing_is_drawn_outside(name):
    picture = draw_concepts.PICTURES[name]()
    root = ElementTree.fromstring(picture.svg())
    for text in root.iter(f"{SVG}text"):
        wide = len(text.text) * float(text.get("font-size")) * draw_concepts.CHARACTER
        left = {"start": 0.0, "middle": wide / 2, "end": wide}[text.get("text-anchor")]
        x, y = float(text.get("x")) - left, float(text.get("y"))
        assert x >= 0 and x + wide <= draw_concepts.WIDTH + 1, text.text
        assert 8 <= y <= picture.height - 2, text.text
    for box in root.iter(f"{SVG}rect"):
        x, y, wide, high = (float(box.get(key, 0)) for key in ("x", "y", "width", "height"))
        assert x >= 0 and x + wide <= draw_concepts.WIDTH and y >= 0 and y + high <= picture.height


@pytest.mark.parametrize("name", draw_concepts.PICTURES)
def test_every_drawing_is_on_one_page_with_words_for_those_who_cannot_see_it(name):
    shown = [page for page in CONCEPTS.glob("*.md") if f"(images/{name}.svg)" in page.read_text(encoding="utf-8")]
    assert len(shown) == 1
    (words,) = re.findall(rf"!\[([^\]]+)\]\(images/{name}\.svg\)", shown[0].read_text(encoding="utf-8"))
    assert len(words.split()) >= 8


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_their_ground_in_both_themes(theme):
    light, dark = draw_concepts.STYLE.split("@media (prefers-color-scheme: dark)")
    colours = fills(light) | (fills(dark) if theme == "dark" else {})
    for ground in ("ground", "plain", "blue", "green", "red", "gold"):
        for words in ("ink", "dim"):
            assert contrast(colours[words], colours[ground]) >= 4.5, (theme, words, ground)
