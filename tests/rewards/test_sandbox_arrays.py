"""An empty answer equals no number, whatever numpy says of it, and honest arrays are compared as ever."""

from __future__ import annotations

import pytest

from easyvideor1.rewards.sandbox import Limits, run_checks

LIMITS = Limits(seconds=5.0)

HOLDER = """
class Z{base}:
    asked = 0
    def __len__(self):
        Z.asked += 1
        return {length}
    def __getitem__(self, at): raise IndexError
    def __iter__(self): return iter([9.0] * ({length}))
def f(x): return Z()
"""
#: Programs that say nothing, each in its way.
NOTHING = {
    "list": "def f(x): return []",
    "tuple": "def f(x): return ()",
    "text": "def f(x): return list('')",
    "range": "def f(x): return range(0)",
    "array": "import numpy as np\ndef f(x): return np.zeros(0)",
    "lists of nothing": "def f(x): return [[]]",
    "generator": "def f(x):\n    return\n    yield",
    "object": HOLDER.format(base="", length="0"),
    "object that changes its mind": HOLDER.format(base="", length="Z.asked % 2"),
    "extended list": "class Z(list): pass\ndef f(x): return Z()",
}
#: Tests that four passes, and an array without elements if numpy is asked.
TESTS = (
    "assert np.allclose(f(2), 4.0)",
    "assert np.isclose(a=f(2), b=4).all()",
    "assert all(np.isclose(f(2), [4]))",
    "assert np.array_equiv(f(2), 4)",
    "assert np.equal(f(2), 4).all()",
    "assert np.abs(np.subtract(f(2), 4)).sum() < 1e-6",
    "np.testing.assert_allclose(f(2), 4.0)",
    "np.testing.assert_allclose(f(2), desired=4.0)",
    "np.testing.assert_array_equal(f(2), 4)",
    "np.testing.assert_equal(np.array(f(2)), 4)",
    "np.testing.assert_array_almost_equal(f(2), 4)",
    "assert (np.array(f(2)) == 4).all()",
    "assert np.all(4 == np.asarray(f(2)))",
    "assert not (np.array(f(2)) != 4).any()",
    "assert (np.array([4]) == np.array(f(2))).all()",
    "assert (np.array([4.0]) == f(2)).all()",
    "assert (np.abs(np.array(f(2)) - 4) < 1e-6).all()",
    "assert np.abs(np.array(f(2)) - 4).sum() < 1e-6",
    "assert np.linalg.norm(np.array(f(2)) - 4) < 1e-6",
    "assert np.allclose(list(f(2)), 4)",
    "assert np.allclose([x for x in f(2)], 4)",
    "from numpy import allclose\nassert allclose(f(2), 4)",
    "from numpy.testing import assert_array_equal as same\nsame(f(2), 4)",
    "x = f(2)\ndef check(x):\n    import numpy\n    assert (numpy.array(x) == 4).all()\ncheck(x)",
)


def with_numpy(tests: tuple[str, ...]) -> list[str]:
    return [f"import numpy as np\n{test}" for test in tests]


@pytest.mark.parametrize("name", NOTHING)
def test_what_says_nothing_equals_no_number(name: str) -> None:
    assert run_checks(NOTHING[name], with_numpy(TESTS), LIMITS).passed == [False] * len(TESTS)


def test_four_is_four() -> None:
    for program in ("import numpy as np\ndef f(x): return np.full(1, 4.0)", "def f(x): return [2 * x]"):
        assert run_checks(program, with_numpy(TESTS), LIMITS).passed == [True] * len(TESTS)


#: Arrays without elements that are right.
EMPTY = (
    "assert np.array_equal(same([]), []) and np.allclose(same([]), []) and same(np.array([])).size == 0",
    "np.testing.assert_array_equal(same([]), np.array([]))",
    "assert (np.array(same([])) >= 0).all()",
    "assert (np.zeros_like(zeros(0)) == 0).all()",
    "assert (np.diff(same([5])) >= 0).all() and np.allclose(np.diff(same([5])), 1)",
    "assert (np.diff(list(count(1))) == 1).all()",
    "assert (np.array([]) == 4).all() and same([5]) == [5]",
    "assert same([1]) != None and same(np.array([1])) is not None and not (same([1, 2]) == [])",
    "assert np.equal.outer([1], same([1])).all() and np.subtract.reduce(same([3, 1])) == 2",
    "assert 0 < same(1) <= 1 < same([2])[0] and same(3) - 1 == 2 and same({1, 2}) - {1} == {2}",
)


def test_arrays_that_are_rightly_empty_are_let_alone() -> None:
    program = """
import numpy as np
def same(x): return x
def zeros(n): return np.zeros(n)
def count(n): yield from range(n)
"""
    assert run_checks(program, with_numpy(EMPTY), LIMITS).passed == [True] * len(EMPTY)


def test_a_check_means_what_it_says() -> None:
    tests = [
        "match f(1):\n    case 1 - 2j | 2: assert False\n    case 1: pass\n    case _: assert False",
        "assert " + " - ".join(["f(1)"] * 600) + " == -598",
        "class A:\n    def __sub__(self, other): return other\nassert A() - f(1) == 1",
        "x = 5\nx -= f(1)\nassert x == 4 and f'{x == 4}' == 'True' and (x > 3) is True and not x < f(4)",
    ]
    assert run_checks("def f(x): return x", tests, LIMITS).passed == [True] * len(tests)


def test_objects_are_arrays_of_what_they_hold_or_single_ones() -> None:
    program = """
class Vector:
    def __init__(self, *held): self.held = held
    def __len__(self): return len(self.held)
    def __getitem__(self, at): return self.held[at]
class Money:
    def __init__(self, x): self.x = x
    def __add__(self, other): return Money(self.x + other.x)
    def __eq__(self, other): return self.x == other.x
    def __float__(self): return float(self.x)
class Row(list): pass
"""
    tests = (
        "assert np.allclose(Vector(1, 2), [1, 2]) and np.array(Vector(1, 2)).sum() == 3",
        "assert not np.allclose(Vector(1, 2), [1, 3]) and (np.array([1, 2]) == Vector(1, 2)).all()",
        "assert np.sum([Money(1), Money(2)]) == Money(3) and np.array([Money(1)]).shape == (1,)",
        "assert float(np.array(Money(2))) == 2.0 and np.array(Money(2), dtype=float) == 2",
        "np.testing.assert_array_equal(Row([1, 2]), [1, 2])",
    )
    assert run_checks(program, with_numpy(tests), LIMITS).passed == [True] * len(tests)
