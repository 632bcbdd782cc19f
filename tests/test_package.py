"""The package as others get it: what is in the wheel, that it works outside of the tree, and the image's recipe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from easyvideor1 import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "easyvideor1"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def build(place: Path, kind: str, out: Path) -> Path:
    """What ``python -m build`` calls, without a network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the source distribution, as ``python -m build`` makes both."""
    place, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(ROOT / name, place / name)
    shutil.copytree(ROOT / "src", place / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    source = build(place, "sdist", out)
    with tarfile.open(source) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    return build(unpacked, "wheel", out)


def test_the_wheel_holds_the_files_of_the_tree_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    there = {
        path.relative_to(ROOT / "src").as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }
    assert packed == there


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        (entries,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        metadata, points = archive.read(about).decode(), archive.read(entries).decode()
    assert f"\nVersion: {__version__}\n" in metadata and "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: >=3.11\n" in metadata and "\nClassifier: Typing :: Typed\n" in metadata
    assert "[console_scripts]\nevr1 = easyvideor1.cli:main" in points
    assert "[pipx.run]\neasyvideor1 = easyvideor1.cli:main" in points


@pytest.mark.model
def test_a_wheel_in_a_fresh_environment_works_outside_of_the_tree(wheel: Path, tmp_path: Path) -> None:
    """Dependencies are those of this environment; the package itself is that of the wheel."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    binaries = tmp_path / "venv" / "bin"
    install = [str(binaries / "python"), "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", str(wheel)]
    subprocess.run(install, check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies) + "\n", encoding="utf-8")
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def said(*words: str) -> str:
        done = subprocess.run(
            [str(binaries / words[0]), *words[1:]],
            cwd=empty,
            env=environment | {"COLUMNS": "200"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in said("python", "-c", "import easyvideor1; print(easyvideor1.__file__)")
    assert said("evr1", "--version") == f"easyvideor1 {__version__}\n"
    assert "veripo" in said("evr1", "recipes")
    assert "--prepare" in said("evr1", "quickstart", "--help")
    assert list(empty.iterdir()) == []


def test_versions_have_their_section_and_say_how_to_move() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    section = changes.partition(f"\n## [{__version__}]")[2].partition("\n## [")[0]
    assert "### Migration" in section


def instructions(name: str) -> list[list[str]]:
    """The words of each instruction of that name, lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [line.split()[1:] for line in joined.splitlines() if line.split()[:1] == [name]]


def ignored(path: str) -> bool:
    """Whether the build context lacks a file of the tree; patterns of ``.dockerignore`` as this project writes them."""
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert rules[0] == "*", "everything is left out that is not named"
    return not any(rule == f"!{path.partition('/')[0]}" for rule in rules)


def test_the_image_copies_files_that_exist() -> None:
    copied = [source for words in instructions("COPY") for source in words[:-1]]
    assert copied and all((ROOT / source).exists() and not ignored(source) for source in copied)
    assert {"pyproject.toml", "src", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= {*copied}


def test_the_image_chooses_a_stage_that_is_there() -> None:
    stages = {words[2] for words in instructions("FROM") if words[1:2] == ["AS"]}
    (chosen,) = (words[0] for words in instructions("FROM") if words[0].startswith("$"))
    assert chosen == "${DEVICE}" and {"cpu", "cuda"} <= stages
    defaults = dict(words[0].partition("=")[::2] for words in instructions("ARG"))
    assert defaults["DEVICE"] in stages
    assert set(defaults["EXTRAS"].split(",")) <= set(PROJECT["project"]["optional-dependencies"])
    assert instructions("ENTRYPOINT") == [['["evr1"]']]


def test_the_image_has_a_python_that_the_package_takes() -> None:
    wanted = tuple(int(part) for part in PROJECT["project"]["requires-python"].removeprefix(">=").split("."))
    (python,) = (words[0] for words in instructions("FROM") if words[0].startswith("python:"))
    found = tuple(int(part) for part in re.findall(r"\d+", python)[:2])
    assert found >= wanted
