"""What documents look like: the measure on pictures with known answers, and a real browser that gets nowhere."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from easyvideor1.config.schema import RewardConfig
from easyvideor1.rewards import RewardError, Scorer
from easyvideor1.rewards.rendering import browser as browser_module
from easyvideor1.rewards.rendering import compare
from easyvideor1.rewards.rendering.browser import Browser, Image, PageError, RenderError, find_chromium
from easyvideor1.rewards.rendering.compare import image_similarity, reduced, structural_similarity
from easyvideor1.types import ConfigError, Sample, Score

CHROMIUM = find_chromium()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: nothing can be rendered")
SIDE = 128


def white() -> Image:
    return np.full((SIDE, SIDE, 3), 255, np.uint8)


def square(start: int, end: int, colour: tuple[int, int, int] = (200, 30, 30)) -> Image:
    image = white()
    image[start:end, start:end] = colour
    return image


def plain_similarity(a: Image, b: Image) -> float:
    """The paper's Eq. 13, window by window, as an oracle."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for top in range(0, a.shape[0] - 7, 4):
        for left in range(0, a.shape[1] - 7, 4):
            for colour in range(3):
                x = a[top : top + 8, left : left + 8, colour].astype(float).ravel()
                y = b[top : top + 8, left : left + 8, colour].astype(float).ravel()
                up = (2 * x.mean() * y.mean() + c1) * (2 * np.cov(x, y, bias=True)[0, 1] + c2)
                found.append(up / ((x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var() + y.var() + c2)))
    return float(np.mean(found))


def test_the_similarity_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in range(2))
    mixed = ((a.astype(int) + b) // 2).astype(np.uint8)
    for other in (b, mixed, np.zeros_like(a)):
        assert structural_similarity(a, other) == pytest.approx(plain_similarity(a, other), abs=1e-9)
    assert structural_similarity(a, a) == pytest.approx(1.0)


def test_the_empty_page_is_worth_nothing_and_the_same_picture_everything() -> None:
    reference = square(40, 90)
    assert image_similarity(reference, reference) == 1.0
    assert image_similarity(white(), reference) == 0.0
    near, far = (image_similarity(square(*at), reference) for at in ((40, 88), (40, 80)))
    assert near is not None
    assert far is not None
    assert 1.0 > near > far > 0.0
    assert image_similarity(np.zeros_like(reference), reference) == 0.0
    assert image_similarity(reference, white()) is None


def test_blocks_are_averaged() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[::2, ::2] = 200
    assert (reduced(image, 4) == 50).all()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def open_browser() -> Iterator[Browser]:
    """One without namespaces, as on a kernel that has none: everything rests on the protocol and the flags."""
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM, namespaces=False)
    yield browser
    browser.close()


class Listener:
    """A server that counts who connects, whatever they say, and answers like a web server."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.hits = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.hits += 1
            connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/css\r\n\r\nbody{background:red}")
            connection.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.socket.close()


@needs_chromium
def test_html_and_svg_are_drawn(browser: Browser) -> None:
    page = browser.render("<body style='margin:0'><div style='width:64px;height:128px;background:#00f'></div>", 128)
    assert page.shape == (128, 128, 3)
    assert (page[:, :64] == (0, 0, 255)).all()
    assert (page[:, 64:] == 255).all()
    svg = '<svg viewBox="0 0 10 10"><rect width="10" height="5" fill="#0f0"/></svg>'
    picture = browser.render(compare.svg_page(svg, 128), 128)
    assert (picture[:64] == (0, 255, 0)).all()
    assert (picture[64:] == 255).all()
    linked = '<svg viewBox="0 0 1 1"><rect id="r" width="1" height="1"/><use xlink:href="#r"/></svg>'
    assert (browser.render(compare.svg_page(linked, 128), 128) == 0).all()
    assert (browser.render(compare.svg_page("<svg>", 128), 128) == 255).all()


NETWORK = {
    "image": "<img src='{url}/a.png'>",
    "style": "<link rel=stylesheet href='{url}/a.css'>"
    "<style>@import '{url}/b.css'; body{{background:url({url}/c)}}</style>",
    "font": "<style>@font-face{{font-family:f;src:url({url}/f)}} body{{font-family:f}}</style>text",
    "ahead": "<link rel=preconnect href='{url}'><link rel=dns-prefetch href='{url}'><link rel=prefetch href='{url}/p'>"
    "<link rel=preload as=image href='{url}/q'><link rel=prerender href='{url}/r'><link rel=icon href='{url}/i'>",
    "frames": "<iframe src='{url}'></iframe><object data='{url}'></object><embed src='{url}'>"
    "<iframe srcdoc=\"<img src='{url}/s'>\"></iframe>",
    "media": "<video src='{url}/v' poster='{url}/w' autoplay></video><audio src='{url}/x' autoplay></audio>",
    "refresh": "<meta http-equiv=refresh content='0;url={url}'>",
    "base": "<base href='{url}/'><img src='a'>",
    "form": "<form action='{url}' autofocus><input type=image src='{url}/y'></form>",
    "script": "<script src='{url}/z'></script><script>fetch('{url}')</script><img src=x onerror=\"fetch('{url}')\">",
    "svg": "<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}/a'/><use href='{url}/b#c'/>"
    "<filter id='f'><feImage href='{url}/d'/></filter><rect filter='url(#f)' width='9' height='9'/>"
    "<foreignObject width='9' height='9'><img xmlns='http://www.w3.org/1999/xhtml' src='{url}/e'/></foreignObject>"
    "<style>@import '{url}/g'; rect{{fill:url({url}/h#i)}}</style></svg>",
}


@needs_chromium
@pytest.mark.parametrize("fenced", [True, False], ids=["namespaces", "no namespaces"])
def test_no_page_reaches_a_server(browser: Browser, open_browser: Browser, listener: Listener, fenced: bool) -> None:
    used = browser if fenced else open_browser
    for document in NETWORK.values():
        document = document.format(url=listener.url)
        used.render(document, 64)
        if "<svg" in document:
            used.render(compare.svg_page(document, 64), 64)
    time.sleep(0.3)  # a connection opened ahead of its use would come now
    assert listener.hits == 0
    socket.create_connection(listener.socket.getsockname()).close()
    limit = time.monotonic() + 60
    while listener.hits < 1 and time.monotonic() < limit:
        time.sleep(0.01)
    assert listener.hits == 1  # it would have been seen


@needs_chromium
@pytest.mark.parametrize("fenced", [True, False], ids=["namespaces", "no namespaces"])
def test_no_page_reads_a_file(browser: Browser, open_browser: Browser, tmp_path: Path, fenced: bool) -> None:
    used = browser if fenced else open_browser
    secret = tmp_path / "red.svg"
    names = "xmlns='http://www.w3.org/2000/svg'"
    secret.write_text(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 1 1'><rect width='1' height='1' fill='red'/></svg>"
    )
    (tmp_path / "red.html").write_text("<body bgcolor=red>")
    (tmp_path / "red.css").write_text("body{background:red}")
    file = tmp_path.as_uri()
    for document in (
        f"<img alt='' src='{file}/red.svg'>",
        f"<style>body{{background:url({file}/red.svg)}}</style>",
        f"<link rel=stylesheet href='{file}/red.css'>",
        f"<meta http-equiv=refresh content='0;url={file}/red.html'>",
        f"<iframe style='border:0' src='{file}/red.html'></iframe>",
        f"<object data='{file}/red.svg'></object><embed src='{file}/red.svg'>",
    ):
        assert not _is_red(used.render(document, 64)), document
    for svg in (
        f"<svg {names} viewBox='0 0 1 1'><image width='1' height='1' href='{file}/red.svg'/></svg>",
        f"<!DOCTYPE s [<!ENTITY x SYSTEM '{file}/red.svg'>]><svg {names} viewBox='0 0 1 1'>&x;</svg>",
        f"<?xml-stylesheet href='{file}/red.css'?><svg {names}><rect width='9' height='9' fill='#fff'/></svg>",
    ):
        assert not _is_red(used.render(compare.svg_page(svg, 64), 64)), svg


def _is_red(picture: Image) -> bool:
    return bool(((picture[..., 0] > 128) & (picture[..., 1] < 128)).any())


@needs_chromium
@pytest.mark.parametrize(
    "document",
    [
        "<body><script>document.body.style.background = 'red'</script>",
        "<body onload=\"this.style.background = 'red'\">",
        "<img src=x onerror=\"document.body.style.background = 'red'\">",
        "<svg xmlns='http://www.w3.org/2000/svg'><script>document.rootElement.style.background = 'red'</script></svg>",
        "<iframe style='border:0' src=\"javascript:'&lt;body bgcolor=red&gt;'\"></iframe>",
        "<iframe style='border:0' srcdoc=\"<script>document.write('<body bgcolor=red>')</script>\"></iframe>",
        '<meta http-equiv=refresh content="0;url=data:text/html,<body bgcolor=red>">',
    ],
)
def test_no_script_runs(browser: Browser, document: str) -> None:
    assert not _is_red(browser.render(document, 64))
    if "<svg" in document:
        assert not _is_red(browser.render(compare.svg_page(document, 64), 64))


@needs_chromium
def test_pages_know_nothing_of_each_other_and_look_the_same_again(browser: Browser) -> None:
    page = "<h1>Title</h1><p style='color:teal'>words <b>bold</b></p>"
    first = browser.render(page, 128)
    browser.render("<style>*{background:red!important}</style>", 128)
    assert (browser.render(page, 128) == first).all()


@needs_chromium
def test_a_browser_that_was_killed_is_started_again() -> None:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM)
    try:
        first = browser.render("<p>words", 64)
        assert browser._session is not None
        process = browser._session._process
        assert process is not None
        os.killpg(process.pid, signal.SIGKILL)
        assert (browser.render("<p>words", 64) == first).all()
        profile = Path(browser._session._profile)
        assert profile.is_dir()
    finally:
        browser.close()
    assert not profile.exists()


@needs_chromium
def test_a_page_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHROMIUM is not None
    browser = Browser(CHROMIUM)
    try:
        browser.render("<p>", 64)
        monkeypatch.setattr(browser_module, "PAGE_SECONDS", 1.0)
        tenfold = "".join(f"<g id='g{n}'>" + f"<use href='#g{n - 1}'/>" * 10 + "</g>" for n in range(1, 9))
        heavy = f"<svg viewBox='0 0 9 9'><rect id='g0' width='9' height='9'/>{tenfold}</svg>"
        start = time.monotonic()
        with pytest.raises(PageError, match="TimeoutError"):
            browser.render(compare.svg_page(heavy, 512), 512)
        assert time.monotonic() - start < 60
        monkeypatch.undo()
        assert browser.render("<p>", 64).shape == (64, 64, 3)
    finally:
        browser.close()


CIRCLE = '<svg viewBox="0 0 9 9"><circle cx="4" cy="4" r="{r}" fill="{fill}"/></svg>'


def svg_score(reference: str, response: str, **config: object) -> Score:
    sample = Sample(id="s", question="q", task="svg_code", answer=reference)
    return Scorer(RewardConfig(**config))(sample, f"<answer>{response}</answer>")


@needs_chromium
def test_accuracy_is_the_mean_of_structure_and_image() -> None:
    reference = CIRCLE.format(r=4, fill="red")
    same = svg_score(reference, reference)
    assert (same.accuracy, same.total) == (1.0, 1.0)
    near, wrong = (svg_score(reference, CIRCLE.format(r=r, fill=fill)) for r, fill in ((3.9, "red"), (4, "blue")))
    for score in (near, wrong):
        assert score.accuracy == pytest.approx((score.parts["structure"] + score.parts["image"]) / 2)
        assert score.reason == ""
        assert score.total == pytest.approx(0.9 * score.accuracy + 0.1)
    assert near.parts["structure"] == wrong.parts["structure"]  # one attribute differs in each
    assert near.parts["image"] > 0.7 > 0.1 > wrong.parts["image"]
    drawn_otherwise = CIRCLE.format(r=4, fill="red").replace('fill="red"', 'style="fill:#ff0000"')
    assert svg_score(reference, drawn_otherwise).parts["image"] == 1.0


@needs_chromium
def test_html_is_compared_by_its_looks_too() -> None:
    sample = Sample(id="s", question="q", task="html_code", answer="<h1 style='color:red'>Hello there</h1>")
    scorer = Scorer(RewardConfig())
    scores = scorer.score_group(sample, [f"<answer>{text}</answer>" for text in (sample.answer, "<p></p>", "no page")])
    assert scores[0].accuracy == 1.0
    assert (scores[1].parts["image"], scores[2].accuracy) == (0.0, 0.0)
    assert scores[1].accuracy == pytest.approx(scores[1].parts["structure"] / 2)


def test_without_a_browser_the_structure_decides_and_the_score_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(browser_module, "_PLACES", ())
    score = svg_score(CIRCLE.format(r=4, fill="red"), CIRCLE.format(r=3, fill="red"))
    assert score.accuracy == score.parts["structure"] > 0
    assert "image" not in score.parts
    assert score.reason == compare.NO_BROWSER
    with pytest.raises(ConfigError, match=r"rewards\.render"):
        Scorer(RewardConfig(render="chromium"))
    with pytest.raises(ConfigError, match="no Chromium at nothing-here"):
        Scorer(RewardConfig(chromium="nothing-here"))


def test_rendering_can_be_off() -> None:
    score = svg_score(CIRCLE.format(r=4, fill="red"), CIRCLE.format(r=3, fill="red"), render="off")
    assert (score.reason, score.accuracy) == ("", score.parts["structure"])


@pytest.fixture
def broken(tmp_path: Path) -> str:
    path = tmp_path / "chromium"
    path.write_text("#!/bin/sh\necho it is broken >&2\nexit 3\n")
    path.chmod(0o755)
    return str(path)


def test_a_browser_that_does_not_start(broken: str) -> None:
    with pytest.raises(RenderError, match=r"does not start.*it is broken"):
        Browser(broken).render("<p>", 64)
    reference, response = (CIRCLE.format(r=r, fill="red") for r in (4, 3))
    with pytest.warns(RuntimeWarning, match="does not start"):
        score = svg_score(reference, response, chromium=broken)
    assert (score.accuracy, score.reason) == (score.parts["structure"], compare.BROKEN_BROWSER)
    with pytest.raises(RewardError, match=r"rewards\.render is chromium"):
        svg_score(reference, response, chromium=broken, render="chromium")


def test_it_is_said_once(broken: str) -> None:
    scorer = Scorer(RewardConfig(chromium=broken))
    sample = Sample(id="s", question="q", task="svg_code", answer=CIRCLE.format(r=4, fill="red"))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for r in range(3):
            scorer(sample, f"<answer>{CIRCLE.format(r=r, fill='red')}</answer>")
    assert len([w for w in said if w.category is RuntimeWarning]) == 1


@needs_chromium
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")
def test_secrets_of_the_environment_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CHROMIUM is not None
    monkeypatch.setenv("EVR1_SECRET_OF_THE_TEST", "hidden")
    browser = Browser(CHROMIUM)
    try:
        browser.render("<p>", 64)
        assert browser._session is not None
        assert browser._session._process is not None
        environment = Path(f"/proc/{browser._session._process.pid}/environ").read_bytes()
        assert b"HOME=" in environment
        assert b"hidden" not in environment
    finally:
        browser.close()
