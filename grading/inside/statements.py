"""What a top-level statement of a notebook does with names: which it binds, changes and uses, now or when its functions run.

A change is anything after which a name may mean something else although it is still bound to the same object: `found.append(…)`,
`d["a"] = 1`, `N += 1`, `shuffle(order)`, a call of a function that says `global N`.
"""

import ast
import builtins
import re
import symtable
import warnings
from dataclasses import dataclass, field

BUILTINS = frozenset(dir(builtins))
ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)
# Functions of modules that change what they are given; of all others it is believed that they do not.
CHANGERS = re.compile(
    r"(shuffle|heap\w+|insort\w*|put\w*|place|copyto|fill_diagonal|setitem|delitem|iadd|ior|imul|isub|setattr|delattr|next|append|"
    r"extend|insert|update|add|setdefault|pop|remove|clear|sort|reverse|__setattr__|__setitem__)$"
)
ATTRIBUTES = {"setattr", "delattr", "__setattr__", "__delattr__"}  # change even a module
SETTERS = re.compile(r"(set|seed|manual_seed|filterwarnings|simplefilter|enable|disable|append|insert|update|register|run_func)")
READERS = BUILTINS - {"setattr", "delattr", "next", "exec", "eval"}  # built-in functions that leave their arguments as they are
WRITERS = re.compile(r"(open|write\w*|save\w*|to_(csv|json|pickle|parquet)|dump|mkdir|makedirs|touch)$")
LOADERS = re.compile(r"(open|loads?|loadtxt|genfromtxt|fromfile|memmap|read_\w+|exists|is_file|listdir|r?glob)$")
FILES = "<files>"  # what stands for all files among the names
BY_TEXT = {"globals", "exec", "eval", "vars", "locals"}  # reach names by their text


@dataclass
class Statement:
    """One top-level statement: where it stands and what it does with names."""

    cell: int
    line: int
    source: str
    binds: set[str] = field(default_factory=set)
    sure: bool = False  # whoever comes after it sees its binding and no earlier one
    now: set[str] = field(default_factory=set)  # names used when it is run
    later: set[str] = field(default_factory=set)  # names that its functions use when they are called
    changes: set[str] = field(default_factory=set)
    later_changes: set[str] = field(default_factory=set)  # by its functions
    alike: list[set[str]] = field(default_factory=list)  # names of which one may be (a part of) the other
    deleted: set[str] = field(default_factory=set)
    functions: dict[str, tuple[str, bool]] = field(default_factory=dict)  # name → source, stub
    named: set[str] = field(default_factory=set)  # binds that are another name's value or a lambda
    always: bool = False  # star imports, imports from __future__, and what is true of all code from then on
    modules: set[str] = field(default_factory=set)  # binds that are modules or come from one
    constants: set[str] = field(default_factory=set)  # binds that are numbers, texts, …
    checks: set[str] = field(default_factory=set)  # exercises whose check it calls
    at: int = 0


def parse(source: str) -> ast.Module:
    """ast.parse without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def is_stub(node: ast.AST) -> bool:
    """Whether a function does nothing: a docstring, `pass`, `...`, or what was handed out."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return False
    for statement in node.body:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant()):
                continue
            case ast.Raise(exc=ast.Name(id="NotImplementedError") | ast.Call(func=ast.Name(id="NotImplementedError"))):
                return True
            case _:
                return False
    return True


def segment(lines: list[str], node: ast.stmt) -> tuple[int, str]:
    """First line number and text of a statement, with its decorators."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    text = lines[first - 1 : node.end_lineno]
    text[-1] = text[-1].encode()[: node.end_col_offset].decode(errors="replace")
    if not decorators:
        text[0] = text[0].encode()[node.col_offset :].decode(errors="replace")
    return first, "\n".join(text)


def statements_of(tree: ast.Module, source: str, cell: int, offset: int = 0) -> list[Statement]:
    """The statements of a cell, or of a part of it that has `offset` lines before it. Of one that is too deep, what can be told."""
    lines, found = source.split("\n"), []
    for node in tree.body:
        if isinstance(node, ast.Pass):  # what `python_of` makes of most lines of IPython
            continue
        line, text = segment(lines, node)
        statement = Statement(cell, offset + line, text)
        try:
            _names(statement)
            _look(statement, node, lines)
        except ERRORS:  # deeper than Python's own tools go: it counts only as the definition of its name
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            statement.binds, statement.functions = {node.name}, {node.name: (text, False)}
        found.append(statement)
    return found


def _names(statement: Statement) -> None:
    """Binds and uses, as Python's compiler sees them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = symtable.symtable(statement.source, "cell", "exec")
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
            statement.binds.add(symbol.get_name())
        if symbol.is_referenced():
            statement.now.add(symbol.get_name())
    scopes = [(scope, False) for scope in table.get_children()]
    while scopes:
        scope, late = scopes.pop()
        late = late or not (str(scope.get_type()) == "class" or scope.get_name() in ("listcomp", "setcomp", "dictcomp", "genexpr"))
        for symbol in scope.get_symbols():
            if symbol.is_global():
                (statement.later if late else statement.now).add(symbol.get_name())
                if symbol.is_assigned():  # global N; or a walrus in a comprehension
                    (statement.later_changes if late else statement.binds).add(symbol.get_name())
        scopes += [(child, late) for child in scope.get_children()]


def _root(node: ast.AST) -> str:
    """Of `a.b[0].c` the name `a`; "" where there is none."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _roots(node: ast.AST | None) -> set[str]:
    """The names that a value may be, or may hold."""
    match node:
        case ast.Name() | ast.Attribute() | ast.Subscript() | ast.Starred():
            return {_root(node)} - {""}
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Set(elts=parts) | ast.BoolOp(values=parts):
            return {name for part in parts for name in _roots(part)}
        case ast.Dict(values=parts):
            return {name for part in parts for name in _roots(part)}
        case ast.IfExp(body=first, orelse=second):
            return _roots(first) | _roots(second)
        case ast.NamedExpr(target=target, value=value):
            return {target.id} | _roots(value)
        case ast.Call(func=function):  # an object may change its class, or what made it: iter(rows), enumerate(rows), Config()
            return {_root(function)} - {""} | {name for part in node.args for name in _roots(part)}
    return set()


def _look(statement: Statement, node: ast.stmt, lines: list[str]) -> None:
    """Changes, and what kind of statement it is."""
    inside: list[tuple[ast.AST, bool]] = [(node, False)]
    while inside:
        part, late = inside.pop()
        changes = statement.later_changes if late else statement.changes
        match part:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                if not isinstance(part, ast.Lambda):
                    if not late:
                        text = "\n".join(lines[min([part.lineno, *(d.lineno for d in part.decorator_list)]) - 1 : part.end_lineno])
                        statement.functions[part.name] = (text, is_stub(part))
                    inside += [(child, late) for child in part.decorator_list]
                    changes |= {f"{_root(child)}." for child in part.decorator_list if isinstance(child, ast.Attribute)}
                inside += [(child, late) for child in ast.iter_child_nodes(part.args)]
                inside += [(child, True) for child in (part.body if isinstance(part.body, list) else [part.body])]
                continue
            case ast.Attribute(ctx=ast.Store() | ast.Del()) | ast.Subscript(ctx=ast.Store() | ast.Del()):
                changes.add(_root(part))
            case ast.Attribute(attr=name) if CHANGERS.match(name):
                changes.add(f"{_root(part)}.{name}")
            case ast.AugAssign(target=target):
                changes.add(_root(target))
                if not late:
                    statement.now.add(_root(target))
            case ast.Call():
                _call(statement, part, changes)
            case ast.For(target=target, iter=value) | ast.comprehension(target=target, iter=value):
                statement.alike.append(_roots(target) | _roots(value))
            case ast.NamedExpr(target=target, value=value):
                statement.alike.append({target.id} | _roots(value))
            case ast.With(items=items):
                statement.alike += [_roots(item.optional_vars) | _roots(item.context_expr) for item in items if item.optional_vars]
            case ast.Assign(targets=targets, value=value):
                statement.alike.append({name for target in targets for name in _roots(target)} | _roots(value))
            case ast.Import() | ast.ImportFrom():
                names = {(alias.asname or alias.name).split(".")[0] for alias in part.names}
                statement.modules |= names
                files = [getattr(part, "module", None) or "", *(alias.name for alias in part.names)]
                statement.now |= {name.split(".")[0] for name in files} - {""}  # perhaps a file that another cell has written
                statement.always |= "*" in names or getattr(part, "module", "") == "__future__"
        inside += [(child, late) for child in ast.iter_child_nodes(part)]
    for names in (statement.changes, statement.later_changes):
        names.discard("")
    _kind(statement, node)
    if (statement.now | statement.later) & BY_TEXT:
        texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        words = {word for text in texts for word in re.findall(r"[^\W\d]\w*", text[:10_000])}
        statement.later |= words
        if statement.now & BY_TEXT:
            statement.changes |= words | {word.arg for word in ast.walk(node) if isinstance(word, ast.keyword) and word.arg}
        if statement.later & BY_TEXT:
            statement.later_changes |= words


def _call(statement: Statement, call: ast.Call, changes: set[str]) -> None:
    """What a call changes: the object whose method it is, and the arguments of what is not known to leave them alone."""
    name = getattr(call.func, "attr", "") or getattr(call.func, "id", "")
    statement.always |= name == "setrecursionlimit"
    if name.endswith("_test"):
        statement.checks.add(name.removesuffix("_test"))
        return
    owner = _root(call.func) if isinstance(call.func, ast.Attribute) else ""
    if WRITERS.match(name):
        changes.add(FILES)
    if LOADERS.match(name):
        (statement.later if changes is statement.later_changes else statement.now).add(FILES)
    if owner:
        changes.add(f"{owner}.{name}")  # whether it is a module's function or an object's method, only the whole notebook tells
    if name in READERS and not owner:
        return
    by = "" if CHANGERS.match(name) else owner or name
    for argument in [*call.args, *(keyword.value for keyword in call.keywords)]:
        changes |= {part if name in ATTRIBUTES else f"{by}({part}" for part in _roots(argument)}


def _kind(statement: Statement, node: ast.stmt) -> None:
    match node:
        case ast.Delete(targets=targets):
            statement.deleted = {target.id for target in targets if isinstance(target, ast.Name)}
            statement.binds -= statement.deleted
        case ast.Assign(targets=targets, value=value):
            statement.sure = True
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            if isinstance(value, (ast.Name, ast.Lambda, ast.Attribute)):
                statement.named = names
            if isinstance(value, (ast.Constant, ast.Lambda)):
                statement.constants = names
        case ast.AnnAssign(value=None):
            statement.binds = set()
        case ast.AnnAssign() | ast.AugAssign() | ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef():
            statement.sure = True
        case ast.ClassDef(name=name):
            statement.sure = True
            statement.functions = {name: (statement.source, False)}
        case ast.Expr(value=ast.Call(func=ast.Attribute() as function)) if SETTERS.match(function.attr):
            statement.changes.add(_root(function))
