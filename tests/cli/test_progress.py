"""Progress: a bar for terminals, few plain lines otherwise."""

import io

from rich.console import Console

from easyvideor1.cli.durations import rate_words
from easyvideor1.cli.progress import progress


def run(console, every=1000.0, total=50):
    with progress("decoding", unit="file", console=console, every=every) as show:
        for done in range(1, total + 1):
            show(done, total)


def test_without_a_terminal_the_end_is_one_line():
    out = io.StringIO()
    run(Console(file=out, force_terminal=False, width=100))
    lines = out.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("decoding: 50/50, ")
    assert "files/s" in lines[0] or "file/s" in lines[0]


def test_without_a_terminal_lines_come_every_so_often_with_the_time_left():
    out = io.StringIO()
    run(Console(file=out, force_terminal=False, width=100), every=0.0, total=3)
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["decoding: 1/3", "decoding: 2/3", "decoding: 3/3"]
    assert "left 0:00:00" in lines[0]
    assert "left" not in lines[2]


def test_on_a_terminal_there_is_a_bar_with_rate():
    out = io.StringIO()
    run(Console(file=out, force_terminal=True, width=120, color_system=None))
    assert "50/50" in out.getvalue()
    assert "file/s" in out.getvalue()


def test_words():
    assert rate_words(0, 1, "file") == "- file/s"
    assert rate_words(10, 4, "file") == "2.5 file/s"
    assert rate_words(1, 4, "file") == "4.0 s/file"
