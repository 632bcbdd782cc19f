"""House rules that no linter knows."""

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "easyvideor1"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name(path):
    return path.relative_to(ROOT).as_posix()


def functions(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def calls(path):
    """Dotted names of everything that is called, with the keywords and the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: keyword.value for keyword in node.keywords}, node.lineno


def tracked_text():
    """Every text file of the repository, whether committed yet or not."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout: the files of the repository are not known")
    for entry in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / entry
        if not path.is_file():
            continue
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture or a video


def test_the_loop_fits_on_one_screen():
    (train,) = [node for node in functions(PACKAGE / "training" / "loop.py") if node.name == "train"]
    length = train.end_lineno - train.lineno + 1
    assert length <= 60, f"train() has {length} lines: turn what was added into a value that is chosen before the loop"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_stay_readable(path):
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= 400, f"{name(path)} has {length} lines: split it"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions_stay_readable(path):
    long = {node.name: node.end_lineno - node.lineno + 1 for node in functions(path)}
    assert {n: length for n, length in long.items() if length > 80} == {}, f"{name(path)}: split them"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_there_are_no_drawers(path):
    drawers = {"util", "utils", "common", "misc", "helper", "helpers", "tools"}
    found = drawers & {path.stem, *path.relative_to(ROOT).parent.parts}
    assert not found, f"{name(path)}: put what is in {found} beside the noun it is about"


def test_every_floor_is_there():
    rooms = (
        "algorithms attention benchmarks cli components config curation data engines evaluation families packing policy"
    )
    rooms += " recipes records rewards rollout toyworld training video viewer"
    missing = [room for room in rooms.split() if not (PACKAGE / room / "__init__.py").is_file()]
    missing += [file for file in ("types.py", "tasks.py", "registry.py") if not (PACKAGE / file).is_file()]
    assert missing == []


def test_every_room_is_on_a_floor():
    layers = " | ".join(PROJECT["tool"]["importlinter"]["contracts"][0]["layers"])
    listed = {module.strip().removeprefix("easyvideor1.") for module in layers.split("|")}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    unlisted = there - listed - {"__init__", "__main__"}
    assert unlisted == set(), "add them to the layers in pyproject.toml, so that their imports are checked"


#: Between the processes of one run, as torch.distributed does it; no file is read with it.
PICKLES_MESSAGES = {"src/easyvideor1/training/ranks/wire.py"}


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_no_pickle_is_read(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    assert not unsafe & {module.split(".")[0] for module in modules} or name(path) in PICKLES_MESSAGES
    for function, keywords, line in calls(path):
        if function == "torch.load":
            safe = keywords.get("weights_only")
            assert isinstance(safe, ast.Constant) and safe.value is True, f"{name(path)}:{line}: weights_only=True"
        if function.split(".")[-1] == "load" and "allow_pickle" in keywords:
            assert ast.unparse(keywords["allow_pickle"]) == "False", f"{name(path)}:{line}"
        assert function not in ("eval", "yaml.load", "yaml.unsafe_load", "os.system"), (
            f"{name(path)}:{line}: {function}"
        )


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_errors_are_not_swallowed(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ExceptHandler):
            continue
        where = f"{name(path)}:{node.lineno}"
        assert node.type is not None, f"{where}: a bare except"
        broad = ast.unparse(node.type) in ("Exception", "BaseException")
        silent = all(isinstance(step, ast.Pass | ast.Continue) for step in node.body)
        assert not (broad and silent), f"{where}: every error is thrown away"


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=name)
def test_no_work_is_left_in_comments(path):
    with io.BytesIO(path.read_bytes()) as file:
        comments = [t for t in tokenize.tokenize(file.readline) if t.type == tokenize.COMMENT]
    left = [f"{name(path)}:{t.start[0]}" for t in comments if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", t.string)]
    assert left == []


def test_the_repository_names_no_machine():
    # Put together here, so that this file does not find itself.
    roots = ("home", "root", "work", "Users", "mnt")
    machine = re.compile(r"(?<![\w.:/}])/(?:" + "|".join(roots) + r")/\w")
    index = re.compile(r"(?:--(?:extra-)?index-url|PIP_INDEX|pypi\.org/simple|find-links)")
    found = [
        f"{name(path)}:{number}: {line.strip()[:100]}"
        for path, text in tracked_text()
        for number, line in enumerate(text.splitlines(), 1)
        if machine.search(line) or (path != Path(__file__) and index.search(line))
    ]
    assert found == []


def test_types_are_shipped():
    assert (PACKAGE / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["easyvideor1"]


def test_what_is_shipped_beside_the_code_is_declared():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["easyvideor1"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    others = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    assert {name(path) for path in others - shipped} == set(), "add them to package-data in pyproject.toml"


def test_every_task_has_a_template_and_a_reward():
    from easyvideor1.rewards import parse
    from easyvideor1.tasks import TASKS

    templates = {path.stem for path in (PACKAGE / "data" / "templates").glob("*.j2")}
    assert set(TASKS) <= templates
    for task in TASKS:
        assert parse(task, "<answer>1</answer>") is not None


def test_every_task_can_be_scored():
    from easyvideor1.data.prompts import example_answer
    from easyvideor1.rewards import score
    from easyvideor1.tasks import TASKS

    for task in TASKS:
        answer = example_answer(task)
        said = score(task, f"<answer>{answer}</answer>", answer, options=("A. one", "B. two", "C. three", "D. four"))
        assert said.applicable, f"{task}: {said.reason}"
        assert said.accuracy == pytest.approx(1.0), f"{task}: its own example {answer!r} is not right"


def test_make_knows_what_continuous_integration_runs():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    goals = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {"install", "quickstart", "test", "check", "docs", "clean"} <= goals
    assert "make check test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def module_path(named):
    """A path of the architecture page: of the package, or of the repository."""
    return PACKAGE / named if (PACKAGE / named).exists() else ROOT / named


def test_the_architecture_page_names_files_that_exist():
    rooms = {path.name for path in PACKAGE.iterdir()} | {"tests", "benchmarks", "docs", "src"}
    named = set(re.findall(r"`((?:[\w-]+/)*[\w-]+(?:\.\w+)?)`", PAGE))
    paths = {one for one in named if one.endswith(".py") or ("/" in one and one.split("/")[0] in rooms)}
    assert len(paths) > 40
    assert [one for one in sorted(paths) if not module_path(one).exists()] == []


def test_the_architecture_page_names_registries_where_they_are():
    found = re.findall(r"`@?([A-Z_]{4,})(?:\.register)?`(?: \(| in )`([\w/]+\.py)`", PAGE)
    assert len(found) >= 10
    absent = [
        (what, where) for what, where in found if not re.search(rf"^{what}\b", module_path(where).read_text(), re.M)
    ]
    assert absent == []


def test_the_architecture_page_walks_through_a_step_in_ten_files():
    rows = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `([\w.]+)`", PAGE, re.MULTILINE)
    assert 5 <= len(rows) <= 10
    for where, what in rows:
        text = module_path(where).read_text(encoding="utf-8")
        for name_ in what.split("."):
            assert re.search(rf"^\s*(?:def|class) {name_}\b", text, re.MULTILINE), f"{where} has no {what}"


def test_the_architecture_page_shows_the_layers():
    block = PAGE.partition("## Packages")[2].split("```")[1].partition("\n")[2]
    shown = [re.split(r"\s{2,}", line.strip())[0] for line in block.strip().splitlines()]
    assert shown == PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]


def test_no_modules_import_each_other_in_a_circle():
    import graphlib

    import grimp

    graph = grimp.build_graph("easyvideor1")
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"{' -> '.join(error.args[1])}: import one way only, also under TYPE_CHECKING")
