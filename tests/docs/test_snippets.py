"""Every command, snippet and configuration of the documentation is run, page by page.

How pages mark what cannot be run here is described in CONTRIBUTING.md.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .blocks import ROOT, blocks_of, pages
from .commands import check_commands, simple_commands
from .desk import Page, check_yaml, make_desk, take_desk
from .forking import Evr1

LANGUAGES = {"bash", "python", "yaml", "json", "jinja", "text", "html", "dockerfile", "diff", "toml", "latex"}
PAGES = [path for path in pages() if blocks_of(path)]
SLOW = [path for path in PAGES if any("slow" in block.says for block in blocks_of(path))]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def evr1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evr1]:
    with contextlib.closing(Evr1(tmp_path_factory.mktemp("evr1"))) as process:
        yield process


def run(path: Path, desk: Path, evr1: Evr1, place: Path, monkeypatch: pytest.MonkeyPatch, *, slow: bool) -> None:
    take_desk(desk, place)
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    known = set(sys.modules)
    page = Page(place, evr1, slow=slow)
    try:
        for block in blocks_of(path):
            try:
                page.take(block)
            except Exception as error:
                error.add_note(f"in the block at {block.place}")
                raise
    finally:
        for module in set(sys.modules) - known:
            file = getattr(sys.modules[module], "__file__", None) or ""
            if file.startswith(str(place)):
                del sys.modules[module]


@pytest.mark.model
@pytest.mark.parametrize("path", PAGES, ids=name)
def test_the_code_of_a_page_runs(path, desk, evr1, tmp_path, monkeypatch):
    run(path, desk, evr1, tmp_path / "page", monkeypatch, slow=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("path", SLOW, ids=name)
def test_the_slow_code_of_a_page_runs(path, desk, evr1, tmp_path, monkeypatch):
    run(path, desk, evr1, tmp_path / "page", monkeypatch, slow=True)


@pytest.mark.parametrize("path", pages(), ids=name)
def test_every_block_names_its_language(path):
    assert [block.place for block in blocks_of(path) if block.language not in LANGUAGES] == []


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("evr1 trian my.yaml", "No such command"),
        ("evr1 train my.yaml --steps 3", "No such option"),
        ("evr1 train my.yaml stages.grpo.stepz=3", "unknown key"),
        ("evr1 train my.yaml stages.grpo.steps=three", "expected"),
        ("evr1 export runs/own", "missing"),
        ("evr1 eval compare A B --correction none-such", "none-such"),
        ("torchrun --no-python evr1 train my.yaml cluster.rank=2", "unknown key"),
        ("cat > a.yaml <<'END'\nevr1 none\nEND\nevr1 none a.yaml", "No such command 'none'"),
        ("X=1 evr1 config show my.yaml \\\n  --all", "No such option"),
        ("make nothing", "no such goal"),
        ("python -m benchmarks.nothing", "no such module"),
        ("python -m benchmarks.step --nothing", "no option --nothing"),
        ("evr1 'train", "not bash"),
    ],
)
def test_what_is_not_run_is_checked(script, complaint):
    with pytest.raises(ValueError, match=complaint):
        check_commands(script)


def test_what_is_not_run_may_be_right():
    check_commands("evr1 --version\nevr1 train my.yaml seed=3 stages.rl.optimizer.lr=1e-6  # with a comment's quote\n")
    check_commands("ray start --head &\nRAY_ADDRESS=auto evr1 train run.yaml cluster.nodes=2 | tee log\n")


def test_the_words_of_a_script():
    script = "a=1; b 'c\nd' > e  # f\nif g; then h \\\n  i; fi\ncat <<END\nj\nEND\n"
    assert list(simple_commands(script)) == [["b", "c\nd"], ["if", "g"], ["then", "h", "i"], ["fi"], ["cat"]]


def test_a_wrong_key_in_yaml_is_found():
    with pytest.raises(Exception, match="unknown key"):
        check_yaml("rollout: {max_tokens: 3}\n", "configuration", "page.md:1")


def test_comments_of_blocks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- slow -->\n<!-- file: a/b.yaml -->\n```yaml\na: 1\n```\n\n- x\n\n  <!-- not run: needs a\n  GPU -->\n"
        "  ```bash\n  ls\n  ```\n<!-- other remark -->\n```text\n```\n# no\n```python\n# my_x.py: used\nb = 1\n```\n"
    )
    first, second, third, fourth = blocks_of(page)
    assert (first.file, first.says, first.line) == ("a/b.yaml", {"slow": "", "file": "a/b.yaml"}, 3)
    assert (second.text, second.says) == ("ls\n", {"not run": "needs a GPU"})
    assert third.says == {} and fourth.file == "my_x.py"
    page.write_text("<!-- not run -->\n```bash\n```\n")
    with pytest.raises(ValueError, match="reason"):
        blocks_of(page)
    page.write_text("```bash\nls\n")
    with pytest.raises(ValueError, match="not closed"):
        blocks_of(page)


def test_a_page_that_is_wrong_fails(desk, evr1, tmp_path):
    page = tmp_path / "page.md"
    take_desk(desk, tmp_path / "page")
    runner = Page(tmp_path / "page", evr1, slow=False)
    for text in ("```bash\ntest -e nothing\n```\n", "```python\n1 / 0\n```\n", "```json\n{1}\n```\n"):
        page.write_text(text)
        with pytest.raises((AssertionError, ZeroDivisionError, ValueError)):
            runner.take(blocks_of(page)[0])
