"""Names become objects, or say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyvideor1.registry import Registry, load_attribute
from easyvideor1.types import ConfigError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory to put modules into, on a path that is put back."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_and_attributes_are_found(here: Path) -> None:
    (here / "mine_of_registry.py").write_text("class Box:\n    inner = 5\n")
    registry: Registry[int] = Registry("number")
    registry.register("one")(1)
    assert registry.resolve("one") == 1
    assert registry.resolve("mine_of_registry:Box.inner") == 5
    with pytest.raises(ConfigError, match=r"did you mean one\?"):
        registry.resolve("on")
    with pytest.raises(ConfigError, match="registered twice"):
        registry.register("one")(2)


@pytest.mark.parametrize("target", [":f", ".x:f", "..x:f", "a..b:f", "m:", "m:a..b", ":", ""])
def test_what_is_no_module_and_attribute_is_told(target: str) -> None:
    with pytest.raises(ConfigError, match="write it as module:attr"):
        load_attribute(target, "reward")


@pytest.mark.parametrize("target", ["no_such_thing:f", "no_such_thing.inner:f", "json.no_such_thing:f", "json:no.such"])
def test_what_does_not_exist_is_told(target: str) -> None:
    with pytest.raises(ConfigError, match=r"no module|has no"):
        load_attribute(target)


def test_a_module_whose_own_import_fails_says_which(here: Path) -> None:
    """Its name begins with the name of what it lacks, which is another package all the same."""
    (here / "lacksx_reward.py").write_text("import lacksx\n")
    (here / "lacks_deep").mkdir()
    (here / "lacks_deep" / "__init__.py").write_text("import lacks_deep_core.inner\n")
    for target, lacking in (("lacksx_reward:f", "lacksx"), ("lacks_deep:f", "lacks_deep_core")):
        with pytest.raises(ConfigError, match=rf"cannot be imported: ModuleNotFoundError: No module named '{lacking}"):
            load_attribute(target)


def test_a_module_that_fails_is_shown_where(here: Path) -> None:
    (here / "raises_reward.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    (here / "unwritten_reward.py").write_text("def f(:\n    pass\n")
    with pytest.raises(ConfigError) as told:
        load_attribute("raises_reward:f", "reward")
    assert str(told.value) == (
        "reward 'raises_reward:f': raises_reward cannot be imported: ZeroDivisionError: division by zero\n"
        "  raises_reward.py:4 in <module>: f()\n"
        "  raises_reward.py:2 in f: return 1 / 0"
    )
    with pytest.raises(ConfigError, match=r"cannot be imported: SyntaxError: .*\n  unwritten_reward\.py:1: def f\(:$"):
        load_attribute("unwritten_reward:f", "reward")


def test_half_a_name_is_nearer_than_shared_letters() -> None:
    registry: Registry[int] = Registry("objective")
    for name in ("dpo", "sapo", "ppo_clip"):
        registry.register(name)(1)
    with pytest.raises(ConfigError, match=r"did you mean ppo_clip, "):
        registry.resolve("ppo")
