"""Grading: what a notebook allows at its top level, a graded function may use; the same notebook is right there and here."""

import re

import pytest

from grading.course import assignment
from grading.inside import loading, notebook
from grading.inside.newer_python import translate

GIVEN = ["GIVEN = 2\ndef given_helper(n): return range(n)"]  # in a cell that was handed out and is lost
# What notebooks allow at their top level; get_ppv(1) is 7 where it passes its check, and has to be here.
WAYS = {
    "counted up": ["N = 5", "N += 1\nN += 1", "def get_ppv(y):\n    return N"],
    "counted up below": ["N = 5\ndef get_ppv(y):\n    return N", "N += 2", "public_tests.get_ppv_test(get_ppv)", "N += 100"],
    "appended in a loop": [
        "positives = []\nfor i in range(7):\n    positives.append(i)",
        "def get_ppv(y):\n    return len(positives)",
    ],
    "updated": ["d = {}\nd.update(seven=7)", "def get_ppv(y):\n    return d['seven']"],
    "item": ["d = {}\nd['seven'] = 7", "def get_ppv(y):\n    return d['seven']"],
    "union": ["d = {}\nd |= {'seven': 7}", "def get_ppv(y):\n    return d['seven']"],
    "loop variable": ["for SEVEN in [1, 7]:\n    pass", "def get_ppv(y):\n    return SEVEN"],
    "while": ["n = 0\nwhile n < 7:\n    n += 1", "def get_ppv(y):\n    return n"],
    "walrus": ["print(SEVEN := 7)", "def get_ppv(y):\n    return SEVEN"],
    "walrus in a comprehension": ["[last := i for i in range(8)]", "def get_ppv(y):\n    return last"],
    "with": ["import io\nwith io.StringIO('7') as w:\n    SEVEN = int(w.read())", "def get_ppv(y):\n    return SEVEN"],
    "with as": ["import contextlib\nwith contextlib.nullcontext(7) as w:\n    pass", "def get_ppv(y):\n    return w"],
    "import error": [
        "try:\n    import no_such_module as m\nexcept ImportError:\n    import math as m",
        "def get_ppv(y):\n    return m.floor(7.5)",
    ],
    "flag of an import": [
        "try:\n    import no_such_module\n    HAVE = True\nexcept ImportError:\n    HAVE = False",
        "def get_ppv(y):\n    return 1 if HAVE else 7",
    ],
    "decorator": ["def twice(f):\n    return lambda y: 2 * f(y)", "@twice\ndef get_ppv(y):\n    return 3.5"],
    "registry": [
        "R = {}\ndef register(f):\n    R[f.__name__] = f\n    return f",
        "@register\ndef half(y):\n    return y + 6",
        "def get_ppv(y):\n    return R['half'](y)",
    ],
    "class attribute": ["class Config:\n    n = 1", "Config.n = 7", "def get_ppv(y):\n    return Config.n"],
    "object": [
        "class Counter:\n    def __init__(self): self.n = 0\n    def add(self): self.n += 7",
        "c = Counter()\nc.add()",
        "def get_ppv(y):\n    return c.n",
    ],
    "global counter": ["calls = 0", "def get_ppv(y):\n    global calls\n    calls += 1\n    return 6 + calls"],
    "global in a helper": [
        "def prepare():\n    global TABLE\n    TABLE = {1: 7}",
        "prepare()",
        "def get_ppv(y):\n    return TABLE[y]",
    ],
    "change in a helper": ["d = {}\ndef fill(n):\n    d['x'] = n", "fill(7)", "def get_ppv(y):\n    return d['x']"],
    "patched helper": [
        "def helper(y):\n    return 1",
        "def other(y):\n    return 7",
        "helper = other",
        "def get_ppv(y):\n    return helper(y)",
    ],
    "patched attribute": ["def helper(y):\n    return helper.n", "helper.n = 7", "def get_ppv(y):\n    return helper(y)"],
    "setattr": ["class A: pass", "setattr(A, 'n', 7)", "def get_ppv(y):\n    return A.n"],
    "patched module": ["import numpy as np", "np.sevens = lambda: 7", "def get_ppv(y):\n    return np.sevens()"],
    "deleted builtin": ["sum = 3", "del sum", "def get_ppv(y):\n    return sum([3, 4])"],
    "deleted item": ["d = {'a': 1, 'b': 7}\ndel d['a']", "def get_ppv(y):\n    return sum(d.values())"],
    "deleted later": ["N = 7\ndef get_ppv(y):\n    return N", "public_tests.get_ppv_test(get_ppv)", "del N"],
    "star import": ["from math import *", "def get_ppv(y):\n    return floor(7.5)"],
    "magics": [
        "%%time\nN = 7",
        "!pip install x\n%matplotlib inline\nget_ipython().run_line_magic('load_ext', 'x')",
        "def get_ppv(y):\n    return N",
    ],
    "timed assignment": ["%time N = 7", "def get_ppv(y):\n    return N"],
    "capture": ["%%capture out\nN = 7", "def get_ppv(y):\n    return N"],
    "writefile": [
        "%%writefile helpers_of_mine.py\ndef seven(): return 7",
        "import helpers_of_mine",
        "def get_ppv(y):\n    return helpers_of_mine.seven()",
    ],
    "shell output": ["files = !ls\nN = 7", "def get_ppv(y):\n    return N + len(files)"],
    "display": ["def get_ppv(y):\n    display(y)\n    return 7"],
    "shell object": ["def get_ppv(y):\n    get_ipython().run_line_magic('time', '')\n    return 7"],
    "import util": ["import util\nimport public_tests", "def get_ppv(y):\n    return 7"],
    "annotations": ["from __future__ import annotations", "def get_ppv(y: Unknown | None) -> Other:\n    return 7"],
    "type alias": ["type Labels = list[int]\nN = 7", "def get_ppv(y: Labels):\n    return N"],
    "type parameter": ["def first[T](x: list[T]) -> T:\n    return x[0]", "def get_ppv(y):\n    return first([7])"],
    "match": [
        "match [7, 1]:\n    case [SEVEN, *_]:\n        pass",
        "def get_ppv(y):\n    match y:\n        case 1:\n            return SEVEN",
    ],
    "await": ["async def seven():\n    return 7", "N = await seven()", "def get_ppv(y):\n    return N"],
    "new f-string": ["d = {'a': 1}", 'def get_ppv(y):\n    print(f"{d["a"]} and {\', \'.join([\'x\', "y"])}")\n    return 7'],
    "assert": ["N = 7\nassert N == 7\nassert N == 8, 'a note'", "def get_ppv(y):\n    return N"],
    "plot": [
        "import matplotlib.pyplot as plt\nN = 7\nplt.plot([N])\nplt.title(f'{N}')\nplt.show()",
        "def get_ppv(y):\n    return N",
    ],
    "input": ["who = input('your name')\nN = 7", "def get_ppv(y):\n    return N if who is not None else 0"],
    "data of the lesson": [
        "films = load_all()",
        "for film in films:\n    pass",
        "N = 7",
        "def get_ppv(y, films=None):\n    return N",
    ],
    "value after its check": ["def get_ppv(y):\n    return 7", "public_tests.get_ppv_test(get_ppv)", "get_ppv = get_ppv(1)"],
    "value, no check": ["def get_ppv(y):\n    return 7", "get_ppv = get_ppv(1)"],
    "wrapped before its check": [
        "def double(f):\n    return lambda y: 2 * f(y)",
        "def get_ppv(y):\n    return 3.5",
        "get_ppv = double(get_ppv)",
        "public_tests.get_ppv_test(get_ppv)",
    ],
    "constant changed after the check": ["N = 7\ndef get_ppv(y):\n    return N", "public_tests.get_ppv_test(get_ppv)", "N = 3"],
    "helper below": ["def get_ppv(y):\n    return helper()", "def helper():\n    return 7"],
    "another name": ["a = []\nb = a\nb.append(7)", "def get_ppv(y):\n    return a[0]"],
    "part of a list": ["rows = [[], []]\nfor row in rows:\n    row.append(7)", "def get_ppv(y):\n    return rows[1][0]"],
    "held in a dictionary": ["a = []\nd = {'a': a}\nd['a'].append(7)", "def get_ppv(y):\n    return a[0]"],
    "shuffled": [
        "import random\nrandom.seed(3)\na = [1, 2, 7]\nrandom.shuffle(a)",
        "def get_ppv(y):\n    return max(a) if a != [1, 2, 7] else 0",
    ],
    "heap": ["from heapq import heappush\nh = []\nheappush(h, 7)", "def get_ppv(y):\n    return h[0]"],
    "filled by a function": ["def fill(x):\n    x.append(7)", "a = []\nfill(a)", "def get_ppv(y):\n    return a[0]"],
    "filled by map": ["a = []\nlist(map(a.append, [7]))", "def get_ppv(y):\n    return a[0]"],
    "popped": ["a = [1, 7, 3]\nlast = a.pop()", "def get_ppv(y):\n    return a[-1]"],
    "unpacked": ["(a, (b, *c)) = 1, (7, 2, 3)", "def get_ppv(y):\n    return b"],
    "several on a line": ["a = 3; b = a + 4; print(b)", "def get_ppv(y):\n    return b"],
    "globals()": ["globals()['SEVEN'] = 7", "def get_ppv(y):\n    return SEVEN"],
    "globals().update": ["globals().update(SEVEN=7)", "def get_ppv(y):\n    return globals()['SEVEN']"],
    "exec": ["exec('SEVEN = 7')", "def get_ppv(y):\n    return SEVEN"],
    "eval in the function": ["SEVEN = 7", "def get_ppv(y):\n    return eval('SEVEN')"],
    "lambda in a dictionary": ["N = 7\nf = {'a': lambda: N}", "def get_ppv(y):\n    return f['a']()"],
    "partial": [
        "import functools\ndef add(a, b): return a + b\nadd3 = functools.partial(add, 3)",
        "def get_ppv(y):\n    return add3(4)",
    ],
    "inherited": ["class A:\n    n = 7\nclass B(A):\n    pass", "def get_ppv(y):\n    return B().n"],
    "dataclass": ["from dataclasses import dataclass\n@dataclass\nclass P:\n    n: int = 7", "def get_ppv(y):\n    return P().n"],
    "enum": ["import enum\nclass E(enum.Enum):\n    A = 7", "def get_ppv(y):\n    return E.A.value"],
    "namedtuple": ["from collections import namedtuple\nP = namedtuple('P', 'a b')", "def get_ppv(y):\n    return P(7, 1).a"],
    "if main": ["if __name__ == '__main__':\n    N = 7\n    def get_ppv(y):\n        return N"],
    "try around it": ["try:\n    N = 7\n    def get_ppv(y):\n        return N\nfinally:\n    pass"],
    "fails after it": ["with_data = True\nif with_data:\n    def get_ppv(y):\n        return 7\n    train(films)"],
    "does not come to it": ["with open('/no/such/file') as f:\n    def get_ppv(y):\n        return 7"],
    "takes long": ["N = 7\nfor i in iter(int, 1):\n    N = 7", "def get_ppv(y):\n    return N"],
    "exit": ["N = 7\nif N < 8:\n    exit()", "def get_ppv(y):\n    return N"],
    "cached": ["from functools import cache\nN = 6\n@cache\ndef get_ppv(y):\n    return N + y"],
    "prompt": [">>> def get_ppv(y):\n...     return 7\n"],
    "indented cell": ["    N = 7\n    %matplotlib inline\n    def get_ppv(y):\n        return N"],
    "file": ["with open('n.txt', 'w') as f:\n    f.write('7')", "def get_ppv(y):\n    return int(open('n.txt').read())"],
    "saved array": ["import numpy as np\nnp.save('n.npy', np.array([7]))", "def get_ppv(y):\n    return np.load('n.npy')[0]"],
    "path": [
        "from pathlib import Path\nPath('m.txt').write_text('7')",
        "def get_ppv(y):\n    return int(Path('m.txt').read_text())",
    ],
    "dynamic names": ["for i in range(8):\n    exec(f'v{i} = {i}')", "def get_ppv(y):\n    return v7"],
    "dynamic globals": ["for i in range(8):\n    globals()[f'w{i}'] = i", "def get_ppv(y):\n    return w7"],
    "builtins": ["import builtins\nbuiltins.SEVEN_OF_ALL = 7", "def get_ppv(y):\n    return SEVEN_OF_ALL"],
    "single dispatch": [
        "from functools import singledispatch\n@singledispatch\ndef f(x): return 1",
        "@f.register\ndef _(x: int): return 7",
        "def get_ppv(y):\n    return f(y)",
    ],
    "class in two cells": ["class A:\n    n = 7", "class A(A):\n    pass", "def get_ppv(y):\n    return A.n"],
    "swapped": ["a, b = 1, 7", "a, b = b, a", "def get_ppv(y):\n    return a"],
    "made in a loop": [
        "table = {}\nfor k in 'ab':\n    table[k] = []\n    table[k] += [7]",
        "def get_ppv(y):\n    return table['b'][0]",
    ],
    "async with": [
        "class W:\n    async def __aenter__(self): return 7\n    async def __aexit__(self, *a): pass",
        "async with W() as N:\n    pass",
        "def get_ppv(y):\n    return N",
    ],
    "async for": ["async def g():\n    yield 7", "async for N in g():\n    pass", "def get_ppv(y):\n    return N"],
    "return at the top": ["N = 7\nreturn", "def get_ppv(y):\n    return N"],
    "Python 2 below": ["N = 7", "def get_ppv(y):\n    return N", "print 'done'"],
    "unfinished cell": ["N = 7\nfor i in range(3):", "def get_ppv(y):\n    return N"],
    "helper named as an argument": ["def y(): return 1", "def get_ppv(y):\n    return y + 6"],
    "numbers with units": ["from math import pi as π, floor\nη = floor(2 * π) + 1", "def get_ppv(y):\n    return η"],
    "closure": ["def make(n):\n    total = [n]\n    def f(y):\n        return total[0]\n    return f", "get_ppv = make(7)"],
    "lost constant": ["def get_ppv(y):\n    return GIVEN + len(given_helper(5))"],
    "NumPy in place": ["import numpy as np\na = np.zeros(3)\na[:] = 7\na.sort()", "def get_ppv(y):\n    return a[0]"],
    "out=": ["import numpy as np\na = np.zeros(3)\nnp.add(a, 7, out=a)", "def get_ppv(y):\n    return a[0]"],
    "table": [
        "import pandas as pd\nt = pd.DataFrame({'a': [1]})\nt['b'] = 7\nt.insert(0, 'c', 1)",
        "def get_ppv(y):\n    return t['b'][0]",
    ],
    "help": ["N = 7\nlen?\n?len\nprint??", "def get_ppv(y):\n    return N"],
    "comprehension of helpers": ["fs = [lambda y, k=k: k for k in (1, 7)]", "def get_ppv(y):\n    return fs[1](y)"],
    "recursion limit": [
        "import sys\nsys.setrecursionlimit(5000)\ndef deep(n):\n    return n if n == 7 else deep(n - 1)",
        "def get_ppv(y):\n    return deep(3000)",
    ],
    "many branches": [
        "def get_ppv(y):\n    if y == 2: return 0\n"
        + "".join(f"    elif y == {i}: return 0\n" for i in range(3, 900))
        + "    return 7"
    ],
    "long sum": ["N = " + "+".join(["1"] * 400), "def get_ppv(y):\n    return N - 393"],
    "nested lambdas": ["f = " + "(lambda: " * 60 + "7" + ")" * 60, "def get_ppv(y):\n    return 7 if f else 0"],
    "changed through a function": ["a = []\ndef give(): return a", "give().append(7)", "def get_ppv(y):\n    return a[0]"],
    "property": [
        "class A:\n    @property\n    def n(self): return self._n\n    @n.setter\n    def n(self, v): self._n = v",
        "a = A()\na.n = 7",
        "def get_ppv(y):\n    return a.n",
    ],
    "chained methods": [
        "class B:\n    n = 0\n    def add(self, k):\n        self.n += k\n        return self",
        "b = B().add(3)",
        "b.add(2).add(2)",
        "def get_ppv(y):\n    return b.n",
    ],
    "an item as loop variable": ["a = [0, 0]\nfor i, a[1] in enumerate([1, 7]):\n    pass", "def get_ppv(y):\n    return a[1]"],
    "default of a name that changes": ["N = 7", "def get_ppv(y, n=N):\n    return n", "N = 1"],
    "method": ["class A:\n    def get(self, y): return 7", "get_ppv = A().get"],
    "object that can be called": ["class A:\n    def __call__(self, y): return 7", "get_ppv = A()"],
    "state of a generator": [
        "def g():\n    yield 1\n    yield 7",
        "it = g(); next(it)",
        "N = next(it)",
        "def get_ppv(y):\n    return N",
    ],
    "environment": ["import os\nos.environ['SEVEN'] = '7'", "def get_ppv(y):\n    return int(os.environ['SEVEN'])"],
    "NumPy's errors": [
        "import numpy as np\nold = np.seterr(all='raise')",
        "np.seterr(**old)",
        "def get_ppv(y):\n    return 7 if np.isinf(np.ones(1) / 0)[0] else 0",
    ],
    "annotation of a missing name": ["from __future__ import annotations", "def get_ppv(y: Nowhere) -> Nowhere:\n    return 7"],
    "a broken neighbour": ["def get_ppv(y):\n    return 7\n\ndef other(y)\n    return 1"],
    "huge number": ["N = 0x" + "f" * 6000, "def get_ppv(y):\n    return 7 if N else 0"],
}


def test_every_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    failures = []
    for way, cells in WAYS.items():
        answer = notebook.find_answers(cells, ["get_ppv", "get_npv"], GIVEN)["get_ppv"]
        space = loading.namespace(loading.MODULES)
        left_out = loading.load(answer.code, space, 1)
        try:
            got = space["get_ppv"](1)
        except Exception as error:
            got = error
        if got != 7:
            failures.append((way, got, left_out))
    assert not failures


@pytest.mark.parametrize(
    "cells, kept",
    [
        (["model = train()\nmodel.fit(films)", "def get_ppv(y):\n    return 7"], 1),
        (["d = {}\nplot(d)", "fig = plot(1)\nfig.show()", "def get_ppv(y):\n    return 7"], 1),
        (["a = 1\n" * 100, "def get_ppv(y):\n    return a"], 2),
        (["def get_ppv(y):\n    return 7", "p = get_ppv(load())\nmetrics = {'PPV': get_ppv}\nmetrics['x'] = p"], 1),
        (["import numpy as np\nx = np.arange(3)\nprint(np.mean(x))", "def get_ppv(y):\n    return np.mean(y)"], 2),
        (["def f(): return 1", "def f(): return 2", "def get_ppv(y):\n    return f()"], 2),
        (
            ["import keras\nn = load()\nm = train()\nm.add(keras.layers.Dense(n))", "def get_ppv(y):\n    return keras.ops.max(y)"],
            2,
        ),
    ],
)
def test_nothing_is_run_that_the_function_does_not_need(cells, kept):
    assert len(notebook.find_answers(cells, ["get_ppv"])["get_ppv"].code) == kept


@pytest.mark.parametrize("number", [1, 2, 3])
def test_of_a_whole_lesson_an_exercise_needs_imports_and_other_exercises_only(number):
    """No film is loaded and no network trained in a student's ten seconds."""
    homework = assignment(number)
    harmless = r"import |from |keras\.utils\.set_random_seed\(|tf\.get_logger\(\)|def ({})\(".format("|".join(homework.exercises))
    for name, answer in notebook.find_answers(list(homework.solution), homework.exercises, list(homework.skeleton)).items():
        assert answer.code and not [source for *_, source in answer.code if not re.match(harmless, source)], name


def test_a_line_that_does_not_run_is_named():
    code = notebook.find_answers(["films = load_all()", "def get_ppv(y):\n    return films"], ["get_ppv"])["get_ppv"].code
    ((error, place, line, source),) = loading.load(code, loading.namespace(loading.MODULES), 0.3)
    assert (type(error), place, line, source) == (NameError, "cell 1", 1, "films = load_all()")


@pytest.mark.parametrize(
    "new, value",
    [
        ("""x = f"{d["a"]}\"""", "AA"),
        ("""x = f'{d['a']!r:>{w['n']}}|{{}}'""", " 'AA'|{}"),
        ("""x = f"{", ".join(["p", "q"])}\"""", "p, q"),
        ("""x = f"{\n  d["a"]  # } comment\n}\"""", "AA"),
        ("""x = f"{d["a"]=}\"""", "d[\"a\"]='AA'"),
        ("""x = f"{f"{f"{1 + 1}"}"}\"""", "2"),
        ("""x = f'{'\\n'.join(['a', 'b'])}'""", "a\nb"),
        ("""x = "lit {} " f"{d["a"]}" " t{}\"""", "lit {} AA t{}"),
        ("""x = f"{d["v"]:.{w["n"]}f} {"a" if d["a"] != "b" else "c"}\"""", "3.14159 a"),
        ("""x = rf"\\d{d["a"]}\"""", "\\dAA"),
        ("def f[T](a: T) -> T:\n    return a\nx = f(3)", 3),
        ("type V = list[float]\ntype P[T] = tuple[T, T]\nx = 4", 4),
        ("class A[T: (int, str)]:\n    def m[U](self, u: U): return u\nx = A().m(5)", 5),
    ],
)
def test_python_of_today_in_the_words_of_yesterday(new, value):
    """The values are what Python 3.12 gives; lines keep their numbers."""
    text, before = translate(new)
    space = {"d": {"a": "AA", "v": 3.14159}, "w": {"n": 5}}
    exec(compile(before + "\n" + text, "cell", "exec", dont_inherit=True), space)
    assert space["x"] == value and text.count("\n") == new.count("\n")
