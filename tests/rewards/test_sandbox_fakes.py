"""Checks run where the program never is, and dishonest programs gain nothing."""

from __future__ import annotations

import pytest

from easyvideor1.rewards import score
from easyvideor1.rewards.sandbox import Limits, run_checks

LIMITS = Limits(seconds=5.0)

ANYTHING = """
class E:
    def __eq__(self, other): return True
    def __getattr__(self, name): return lambda *args: True
    def __sub__(self, other): return 0.0
    def __lt__(self, other): return True
    def __contains__(self, other): return True
    __rsub__ = __sub__
    __gt__ = __le__ = __ge__ = __lt__
    def __abs__(self): return 0.0
def f(*args): return E()
"""
ZERO = """
class Z:
    def __sub__(self, other): return self
    __rsub__ = __add__ = __radd__ = __mul__ = __truediv__ = __sub__
    def __float__(self): return 0.0
    def __int__(self): return 0
    def __len__(self): return 0
    def __bool__(self): return True
    def __str__(self): return '0'
    def __abs__(self): return self
    def __neg__(self): return self
    def __round__(self, digits=0): return 0
def f(*args): return Z()
"""
#: Whatever an operator with a plain value makes of it looks right, and so does what that is turned into.
RIGHT = """
class Z:
    def itself(self, *_): return self
    __sub__ = __rsub__ = __add__ = __radd__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = itself
    __abs__ = __neg__ = __round__ = __xor__ = __and__ = __isub__ = itself
    def __float__(self): return 0.0
    def __int__(self): return 0
    __index__ = __len__ = __hash__ = __int__
    def __bool__(self): return False
    def __iter__(self): return iter([0.0])
    def __getitem__(self, at): return (0.0,)[at]
    def __getattr__(self, name): return lambda *a, **k: 0.0
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __eq__ = __contains__ = __lt__
    def __str__(self): return '0.0'
    def __format__(self, how): return '0.0'
class N(float):
    def __sub__(self, other): return N(0.0)
    __abs__ = lambda self: self
def f(x): return Z()
def n(x): return N(1.0)
"""
JOINED = (
    "abs(float(f(1) - 12.5)) < 1e-6",
    "int(f(1) - 12) == 0",
    "not (f(1) - 12)",
    "len(f(1) - {1}) == 0",
    "set(f(1) ^ {1}) == {0.0}",
    "str(f(1) - 12) == '0.0'",
    "f'{f(1) - 12.5:.3f}' == '0.0'",
    "'%.2f' % (f(1) - 12.5) == '0.00'",
    "abs(f(1) - 12.5).max() < 1e-6",
    "(f(1) - [1])[0] == 0",
    "round(f(1) - 12.5, 6) == 0",
    "abs(f(1) - 12.5) / f(1) < 1e-6",
    "abs(f(1) - 12.5) <= 1e-6 * f(1)",
    "(f(1) - 12.5) ** 2 < 1e-6",
    "(f(1) - 12.5) in (0, 0.0)",
    "abs(float(sum([f(1), -12.5]))) < 1e-6",
    "abs(n(1) - 12.5) < 1e-6",
    "n(1) - 12.5 == 0",
    # The class that a test names may be joined with plain values; what comes of it is no plain value either.
    "abs(float(Z() - 12.5)) < 1e-6",
    "not (Z() - 12.5)",
    "int(abs(Z() - 12)) == 0",
    "[5][Z() - 12] == 5",
    "abs(Z() - 12.5) <= 1e-6 * Z()",
    "N(1.0) - 12.5 == 0",
    "abs(N(1.0) - 12.5) < 1e-6",
    "range(Z() - 12) == range(0)",
)
LIBRARY = (
    "import unittest; unittest.TestCase().assertAlmostEqual(f(1), 12.5)",
    "import math; assert math.isclose(f(1), 12.5)",
    "import math; assert math.fabs(f(1) - 12.5) < 1e-6",
    "import operator; assert float(operator.sub(f(1), 12.5)) == 0",
    "import statistics; assert statistics.mean([f(1), f(1)]) == 12.5",
    "import numpy as np; assert np.allclose(f(1), 12.5)",
    "import numpy as np; np.testing.assert_allclose(f(1), 12.5)",
    "import numpy as np; assert np.abs(f(1) - np.array([1, 2])).max() < 1e-6",
    "import numpy as np; assert np.abs(np.array([1, 2]) - f(1)).max() < 1e-6",
    "import numpy as np; assert np.linalg.norm(np.array([1, 2]) - f(1)) < 1e-6",
)
DISHONEST = {
    **{test: (RIGHT, f"assert {test}") for test in JOINED},
    **{test: (RIGHT, test) for test in LIBRARY},
    "end a loop over calls": (
        "def f(x): raise StopIteration",
        "for got, wanted in zip(map(f, [1]), [2]): assert got == wanted",
    ),
    "end all()": ("def f(x): raise StopIteration", "assert all(map(lambda x: f(x) == 2 * x, [1]))"),
    "hide an error": (
        "class C:\n    def __enter__(self): return self\n    def __exit__(self, *_): return True\ndef f(x): return 0",
        "with C(): assert f(1) == 1",
    ),
    "the text of ours": ("def f(x): return 0", "assert f.__doc__"),
    "change of contents": (
        "class L(list):\n    __eq__ = lambda self, other: True\ndef f(x): return L()",
        "assert f(1) == [1]",
    ),
    "made by an operator, as a number": (ZERO, "assert abs(float(f(2) - 12.56)) < 1e-6"),
    "made by an operator from the right": (ZERO, "assert abs(int(12 - f(2))) < 1"),
    "made by two operators": (ZERO, "assert float(-(f(2) - 12.56)) < 1e-6"),
    "made by an operator, its length": (ZERO, "assert len(f(2) - 12) == 0"),
    "made by an operator, its text": (ZERO, "assert str(f(2) - 12) == '0'"),
    "made by an operator, its truth": (ZERO, "assert f(2) - 12"),
    "made by an operator, rounded": (ZERO, "assert round(f(2) - 12.5) == 0"),
    "made by an operator with another object": (ZERO, "assert float((f(2) - 12.56) - f(1)) < 1e-6"),
    "a sum": (ZERO, "assert float(sum([f(2), -12.56])) < 1e-6"),
    "holds everything, as a result": (ANYTHING, "assert 3 in f(1)"),
    "a named tuple that equals everything": (
        "from collections import namedtuple\nclass P(namedtuple('P', 'x')):\n    __eq__ = lambda *a: True\n"
        "    __hash__ = None\ndef f(): return P(1)",
        "assert f() == (2,)",
    ),
    "equal to everything": (ANYTHING, "assert f(1) == 3"),
    "equal from the right": (ANYTHING, "assert 3 == f(1)"),
    "close to everything": (ANYTHING, "assert abs(f(1) - 3) < 1e-6"),
    "close from the right": (ANYTHING, "assert abs(3 - f(1)) < 1e-6"),
    "less than everything": (ANYTHING, "assert f(1) < 5"),
    "in everything": (ANYTHING, "assert f(1) in (3, 4)"),
    "holds everything": (ANYTHING, "assert 5 in f(1)"),
    "isclose": (ANYTHING, "import math; assert math.isclose(f(1), 3)"),
    "in a list": (ANYTHING.replace("return E()", "return [E()]"), "assert f(1) == [3]"),
    "as a key": (ANYTHING.replace("return E()", "return {'a': E()}"), "assert f(1) == {'a': 3}"),
    "text": (
        "class S(str):\n    __eq__ = lambda *a: True\n    __hash__ = str.__hash__\ndef f(x): return S()",
        "assert f(1) == 'x'",
    ),
    "hide all()": (
        "def all(x): return True\ndef f(x): return 0",
        "assert all(f(x) == 1 for x in range(3))",
    ),
    "hide abs()": ("def abs(x): return 0\ndef f(x): return 0", "assert abs(f(1) - 1) < 1e-6"),
    "another isclose": (
        "import math\nmath.isclose = lambda *a: True\ndef f(x): return 0",
        "assert math.isclose(f(1), 2)",
    ),
    "another builtin": ("import builtins\nbuiltins.abs = lambda x: 0\ndef f(x): return 0", "assert abs(f(1) - 1) < 1"),
    "another AssertionError": (
        "import builtins\nbuiltins.AssertionError = int\ndef f(x): return 0",
        "assert f(1) == 1",
    ),
    "end": ("def f(x):\n    import os\n    os._exit(0)", "assert f(1) == 1"),
    "raise": ("def f(x): raise SystemExit(0)", "assert f(1) == 1"),
    "itself in itself": ("def f(x):\n    a = []\n    a.append(a)\n    return a", "assert f(1) == 1"),
    "replies in advance": (
        "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'[\"value\", 1]\\n' * 9)\n    except OSError: pass",
        "assert f(1) == 2",
    ),
    "a call of what it was not given": (
        'import os\ndef f(x):\n    for fd in range(3, 64):\n        try: os.write(fd, b\'["name", ["check"]]\\n\')\n'
        "        except OSError: pass\n    return 0",
        "assert f(1) == 1",
    ),
}


@pytest.mark.parametrize("name", DISHONEST)
def test_dishonest_programs_gain_nothing(name: str) -> None:
    program, check = DISHONEST[name]
    assert run_checks(program, [check], LIMITS).passed == [False]


def test_a_class_is_asked_what_is_in_it_where_the_reference_defines_that() -> None:
    bag = "class Bag:\n def __init__(self, *held): self.held = held\n def __contains__(self, x): return x in self.held"
    tests = ["assert 2 in Bag(1, 2) and 3 not in Bag(1, 2)"]
    assert score("code", f"<answer>{bag}</answer>", bag, tests=tests).accuracy == 1.0
    everything = ANYTHING.replace("class E", "class Bag").replace("return E()", "return Bag()")
    plain = "class Bag:\n    def __init__(self, *held): pass\ndef f(x): return [x]"
    assert score("code", f"<answer>{everything}</answer>", plain, tests=["assert 3 in f(3)"]).accuracy == 0.0
