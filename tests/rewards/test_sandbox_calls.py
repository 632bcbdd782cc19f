"""Checks run where the program never is, and honest programs notice nothing."""

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
NAMES = """
class Node:
    def __init__(self, value):
        self._number, self._kind, self._link, self._extends, self._joined, self.held = value, 'leaf', None, [1], 0, 2
    def _contents(self): return 'contents'
    def _asked_for(self): return True
    def _as_joined(self): return self._joined + 1
def f(x): return Node(x)
def seen(n): return n._number, n._kind, n._link
"""
#: Program, and the checks that it must pass.
HONEST = {
    "names with an underscore": (
        NAMES,
        [
            "n = f(7); assert n._number == 7 and n._kind == 'leaf' and n._link is None and n._extends == [1]",
            "n = f(7); n._number, n._kind, n._link = 8, 'root', 9; assert seen(n) == (8, 'root', 9) and n._number == 8",
            "n = f(7); assert n._contents() == 'contents' and n._asked_for() and n._as_joined() == 1 and n.held == 2",
        ],
    ),
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


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_notice_nothing(name: str) -> None:
    program, checks = HONEST[name]
    assert run_checks(program, checks, LIMITS).passed == [True] * len(checks)


def test_a_wrong_check_fails_and_the_next_is_run() -> None:
    checks = ["assert f() == 2", "f(1)", "assert g()", "assert f() == 1"]
    assert run_checks("def f(): return 1", checks, LIMITS).passed == [False, False, False, True]


def test_a_builtin_name_is_the_programs_where_the_reference_defines_it() -> None:
    program, test = "def sum(a, b): return a * b", "assert sum(2, 4) == 8"
    assert score("code", f"<answer>{program}</answer>", program, tests=[test]).accuracy == 1.0
    assert score("code", f"<answer>{program}</answer>", "def product(a, b): return 0", tests=[test]).accuracy == 0.0


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
