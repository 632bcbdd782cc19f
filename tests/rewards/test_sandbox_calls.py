"""Checks run where the program never is: honest programs notice nothing, and dishonest ones gain nothing."""

from __future__ import annotations

import pytest

from easyvideor1.rewards import score
from easyvideor1.rewards.sandbox import Limits, run_checks

LIMITS = Limits(seconds=5.0)

STACK = """
class Stack:
    def __init__(self): self.held = []
    def push(self, value): self.held.append(value)
    def pop(self): return self.held.pop()
    def __len__(self): return len(self.held)
    @property
    def top(self): return self.held[-1]
"""
ERRORS = """
class Mine(ValueError): pass
def fail(mine):
    if mine: raise Mine('bad', 1)
    raise KeyError('k')
"""
VECTOR = """
class V:
    def __init__(self, x): self.x = x
    def __add__(self, other): return V(self.x + other.x)
    def __mul__(self, factor): return V(self.x * factor)
    __rmul__ = __mul__
    def __eq__(self, other): return self.x == other.x
    def __lt__(self, other): return self.x < other.x
"""
OBJECT = """
class V:
    'A number.'
    def __init__(self, x, y=0): self.x, self.y = x, y
    def __neg__(self): return V(-self.x)
    def __pos__(self): return V(+self.x)
    def __invert__(self): return V(~self.x)
    def __abs__(self): return abs(self.x)
    def __round__(self, n=0): return V(round(self.x, n))
    def __eq__(self, other): return self.x == other.x
    def __hash__(self): return hash(self.x)
    def __mul__(self, factor): return V(self.x * factor)
    def __add__(self, other): return V(self.x + (other.x if isinstance(other, V) else other))
    __radd__ = __add__
    def __iadd__(self, other): self.x += other; return self
    def __lshift__(self, other): return V(self.x << other)
    def __str__(self): return f'V({self.x})'
    def __format__(self, how): return format(self.x, how)
    def __float__(self): return float(self.x)
    def __contains__(self, x): return x == self.x
    def __getitem__(self, at): return (self.x, self.y)[at]
    def __enter__(self): return self
    def __exit__(self, *_): self.x = None
def make(x): return V(x)
def f(x):
    'Says it.'
    return x
"""
EXTENDED = """
import collections, enum, typing
Point = collections.namedtuple('Point', 'x y')
class Pair(typing.NamedTuple):
    a: int
    b: int = 2
class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2
class Kind(enum.Enum):
    A = 'a'
class Stack(list):
    def push(self, value): self.append(value)
def point(): return Point(1, 2)
def pairs(): return [Pair(1), Pair(3, 4)]
def plain(): return (1, 2)
"""
TYPES = """
import collections, datetime, decimal, fractions
def made(kind):
    return {
        'date': datetime.date(2020, 1, 2), 'delta': datetime.timedelta(1), 'decimal': decimal.Decimal('1.5'),
        'fraction': fractions.Fraction(1, 3), 'counter': collections.Counter('aab'), 'big': 10 ** 400,
        'deque': collections.deque([1, [2]]), 'set': {1, (2, 3)}, 'bytes': b'x', 'complex': 1 + 2j,
        'range': range(1, 7, 2), 'time': datetime.time(1, 2),
        'aware': datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
        'inf': float('inf'), 'default': collections.defaultdict(int, {1: 2}), 'odd': '\\ud800',
    }[kind]
"""
NUMBER = """
class P:
    def __init__(self, x): self.x = x
    def __neg__(self): return P(-self.x)
    def __pos__(self): return P(self.x)
    def __abs__(self): return P(abs(self.x))
    def __invert__(self): return P(~self.x)
    def __round__(self, digits=0): return round(self.x, digits)
    def __float__(self): return float(self.x)
    def __eq__(self, other): return self.x == other.x
"""
POINT = """
from collections import namedtuple
from typing import NamedTuple
Point = namedtuple('Point', 'x y')
class Long(NamedTuple):
    x: int
    def twice(self): return 2 * self.x
def f(): return Point(1, 2)
def first(point): return point.x
def kind(point): return type(point) is Point
"""
#: Program, and the checks that it must pass.
HONEST = {
    "operators of one number": (
        NUMBER,
        [
            "assert (-P(1)).x == -1 and (+P(1)).x == 1 and (~P(1)).x == -2",
            "assert abs(P(-2)).x == 2 and -P(1) == P(-1)",
        ],
    ),
    "conversions": (NUMBER, ["assert round(P(1.26), 1) == 1.3 and float(P(2)) == 2.0"]),
    "named tuples and back": (
        POINT,
        [
            "assert f() == (1, 2) and f() == Point(1, 2) and (1, 2) == f()",
            "assert f().x == 1 and isinstance(f(), Point) and not isinstance((1, 2), Point)",
            "assert first(f()) == 1 and kind(f()) and [f()] == [(1, 2)]",
            "assert Long(3).twice() == 6 and isinstance(Long(3), Long)",
        ],
    ),
    "a name of a function": ("def f(): pass", ["assert f.__name__ == 'f'"]),
    "holds what it yields": (
        "class B:\n    def __iter__(self): return iter([1, 2])",
        ["assert 2 in B() and 3 not in B()"],
    ),
    "values": ("def add(a, b): return a + b", ["assert add(1, 2) == 3", "assert add([1], [2]) == [1, 2]"]),
    "keywords": ("def f(a, *, b=2): return a + b", ["assert f(1, b=3) == 4"]),
    "change in place": ("def order(x): x.sort()", ["x = [3, 1]; order(x); assert x == [1, 3]"]),
    "change a dict": ("def put(d): d['a'] = [1]", ["d = {}; put(d); assert d == {'a': [1]}"]),
    "class": (STACK, ["s = Stack(); s.push(3); assert len(s) == 1 and s.top == 3 and s.pop() == 3"]),
    "instance": (STACK, ["assert isinstance(Stack(), Stack) and not isinstance(3, Stack)"]),
    "own error": (ERRORS, ["try: fail(True)\nexcept Mine as e: assert e.args == ('bad', 1)\nelse: assert False"]),
    "its base": (ERRORS, ["try: fail(True)\nexcept ValueError: pass\nelse: assert False"]),
    "error": (ERRORS, ["try: fail(False)\nexcept KeyError as e: assert e.args == ('k',)\nelse: assert False"]),
    "function given": ("def each(f, x): return [f(v) for v in x]", ["assert each(lambda v: v * 2, [1]) == [2]"]),
    "function given back": (
        "def each(f, x): return [f(v) for v in x]\ndef inc(x): return x + 1",
        ["assert each(inc, [1]) == [2]", "assert each(lambda v: inc(v), [1]) == [2]"],
    ),
    "error in a function given": (
        "def each(f, x): return [f(v) for v in x]",
        ["try: each(lambda v: 1 / 0, [1])\nexcept ZeroDivisionError: pass\nelse: assert False"],
    ),
    "check function": ("def add(a, b): return a + b", ["def check(f):\n    assert f(1, 2) == 3\ncheck(add)"]),
    "generator": ("def g(n):\n    yield from range(n)", ["assert list(g(3)) == [0, 1, 2] and next(g(1)) == 0"]),
    "numpy": (
        "import numpy as np\ndef f(): return np.arange(3)\ndef h(): return np.float32(0.5), np.int64(3), np.bool_(1)",
        ["assert (f() == [0, 1, 2]).all() and f().sum() == 3", "assert h() == (0.5, 3, True)"],
    ),
    "types": (
        TYPES,
        [
            "from datetime import date, timedelta; assert (made('date'), made('delta')) == (date(2020, 1, 2), "
            "timedelta(1))",
            "from fractions import Fraction; assert made('fraction') == Fraction(1, 3) and made('decimal') == 1.5",
            "from collections import deque; assert made('deque') == deque([1, [2]])",
            "assert made('counter') == {'a': 2, 'b': 1} and made('default') == {1: 2} and made('big') == 10 ** 400",
            "assert made('set') == {1, (2, 3)} and made('bytes') == b'x' and made('complex') == 1 + 2j",
            "assert made('range') == range(1, 7, 2); import datetime; assert made('time') == datetime.time(1, 2)",
            "from datetime import *; assert made('aware') == datetime(2020, 1, 2, tzinfo=timezone.utc)",
            "assert made('inf') == float('inf') and made('odd') == chr(0xd800)",
        ],
    ),
    "print": (
        "def f(): print('hi')",
        [
            "import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()) as out: f()\n"
            "assert out.getvalue() == 'hi\\n'"
        ],
    ),
    "operators": (VECTOR, ["assert V(1) + V(2) == V(3)", "assert (3 * V(2)).x == 6", "assert V(1) < V(2)"]),
    "unary operators": (
        OBJECT,
        [
            "assert (-V(1)).x == -1 and (+V(1)).x == 1 and (~V(1)).x == -2",
            "assert abs(V(-5)) == 5 and round(V(1.26), 1).x == 1.3",
        ],
    ),
    "what an object holds": (OBJECT, ["assert 3 in V(3) and 4 not in V(3)", "assert 3 in make(3)"]),
    "names and texts of functions": (
        OBJECT,
        ["assert f.__name__ == 'f' and f.__doc__ == 'Says it.' and V.__name__ == 'V'", "assert f'{V(1):>3}' == '  1'"],
    ),
    "operators with plain values": (
        OBJECT,
        [
            "assert str(V(1) * 3) == 'V(3)' and (V(2) * 3)[0] == 6 and (V(1) << 2).x == 4",
            "assert V(1) + 2 == V(3) and (make(2) * 2).x == 4",
            "v = V(1); v += 4; assert v.x == 5",
        ],
    ),
    "a sum": (OBJECT, ["assert sum([V(1), V(2)]).x == 3 and float(sum([V(1), V(2)])) == 3.0"]),
    "a set of objects": (OBJECT, ["assert len({V(1), V(1), V(2)}) == 2 and {V(1): 2}[V(1)] == 2"]),
    "a context": (OBJECT, ["with V(1) as v: assert v.x == 1\nassert v.x is None"]),
    "classes": (OBJECT, ["assert issubclass(V, V) and isinstance(make(1), V)"]),
    "named tuples": (
        EXTENDED,
        [
            "assert point() == (1, 2) and (1, 2) == point() and point() == Point(1, 2) and plain() == Point(1, 2)",
            "assert point().x == 1 and point()._replace(x=3) == (3, 2) and pairs() == [(1, 2), (3, 4)]",
            "from collections import namedtuple\nP = namedtuple('P', 'x y')\nassert point() == P(1, 2)",
            "x, y = point(); assert (x, y) == (1, 2) and {point(): 1}[(1, 2)] == 1",
            "assert point() != (1, 3) and not point() == (2, 2) and point() < (1, 3)",
        ],
    ),
    "enumerations": (
        EXTENDED,
        [
            "assert Level.LOW == 1 and Level.HIGH > 1 and Level.LOW.name == 'LOW' and Level(2) == Level['HIGH']",
            "assert list(Level) == [1, 2] and sorted([Level.HIGH, Level.LOW]) == [1, 2]",
            "assert Kind.A.value == 'a' and Kind('a') == Kind.A",
        ],
    ),
    "an extended list": (EXTENDED, ["s = Stack(); s.push(1); s.push(2); assert s == [1, 2] and len(s) == 2"]),
    "the end of a generator": (
        "def g():\n    x = yield 1\n    return x",
        [
            "g = g(); assert next(g) == 1\n"
            "try: g.send(7)\nexcept StopIteration as e: assert e.value == 7\nelse: assert False"
        ],
    ),
    "global state": ("n = 0\ndef f():\n    global n\n    n += 1", ["f(); f(); assert n == 2"]),
    "names of a check": ("def f(): return 1", ["x = f()", "assert x == 1"]),
    "module of the program": ("import math\ndef f(): return 2.0", ["assert math.isclose(f(), 2)"]),
}
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


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_notice_nothing(name: str) -> None:
    program, checks = HONEST[name]
    assert run_checks(program, checks, LIMITS).passed == [True] * len(checks)


@pytest.mark.parametrize("name", DISHONEST)
def test_dishonest_programs_gain_nothing(name: str) -> None:
    program, check = DISHONEST[name]
    assert run_checks(program, [check], LIMITS).passed == [False]


def test_a_wrong_check_fails_and_the_next_is_run() -> None:
    checks = ["assert f() == 2", "f(1)", "assert g()", "assert f() == 1"]
    assert run_checks("def f(): return 1", checks, LIMITS).passed == [False, False, False, True]


def test_a_builtin_name_is_the_programs_where_the_reference_defines_it() -> None:
    program, test = "def sum(a, b): return a * b", "assert sum(2, 4) == 8"
    assert score("code", f"<answer>{program}</answer>", program, tests=[test]).accuracy == 1.0
    assert score("code", f"<answer>{program}</answer>", "def product(a, b): return 0", tests=[test]).accuracy == 0.0


def test_a_class_is_asked_what_is_in_it_where_the_reference_defines_that() -> None:
    bag = "class Bag:\n def __init__(self, *held): self.held = held\n def __contains__(self, x): return x in self.held"
    tests = ["assert 2 in Bag(1, 2) and 3 not in Bag(1, 2)"]
    assert score("code", f"<answer>{bag}</answer>", bag, tests=tests).accuracy == 1.0
    everything = ANYTHING.replace("class E", "class Bag").replace("return E()", "return Bag()")
    plain = "class Bag:\n    def __init__(self, *held): pass\ndef f(x): return [x]"
    assert score("code", f"<answer>{everything}</answer>", plain, tests=["assert 3 in f(3)"]).accuracy == 0.0


def test_the_frames_of_a_program_hold_no_check() -> None:
    program = """
import gc, sys
kept = []
def f():
    frame = sys._getframe()
    while frame:
        kept.append(repr(frame.f_locals))
        frame = frame.f_back
    kept.extend(repr(one) for one in gc.get_objects() if isinstance(one, (str, bytes, list, tuple)))
    return 0
def found(): return any(''.join(['the_ex', 'pected']) in text for text in kept)
"""
    assert run_checks(program, ["f(); 'the_expected'; assert not found()"], LIMITS).passed == [True]
