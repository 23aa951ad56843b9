"""`python -m tests.support.import_direction`: what import-linter does not see. Exits 1 with what is wrong.

The contracts of import-linter (pyproject.toml) hold which folder may import which. The rules here:

- inside the package imports are relative;
- the service (jobs/, worker.py, scheduler.py) uses arqestra's public names and arqestra.embedded alone;
- Redis commands are called in arqestra/store alone, and keys are spelt in arqestra/protocol/keys.py alone. Only what
  cannot be mistaken is looked for: `.zadd(` is a command, `.get(` may be a dict's.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.repository import REPOSITORY

SERVICE = ("jobs", "worker.py", "scheduler.py")
PACKAGE = "arqestra"
INIT = Path(PACKAGE, "__init__.py")
KEYS = Path(PACKAGE, "protocol", "keys.py")

# Names that are Redis commands and nothing else: as a method, and in capitals as a literal.
COMMANDS = frozenset(
    """
    eval_ro evalsha evalsha_ro execute_command fcall script_load register_script pipeline
    zadd zrem zscore zmscore zcard zcount zrange zrevrange zrangebyscore zrangestore zincrby zpopmin zpopmax bzpopmin
    zremrangebyscore zremrangebyrank zscan hset hsetnx hget hmget hgetall hincrby hdel hlen hscan
    lpush rpush lpop rpop blpop brpop lmove blmove lrange llen lrem ltrim
    sadd srem smembers sismember scard spop sscan xadd xread xreadgroup xack xlen xrange xtrim
    setex psetex setnx mget mset getdel getex incrby decrby pexpire pexpireat expireat pttl
    publish psubscribe ssubscribe
    """.split()  # noqa: SIM905 (a hundred quoted names are harder to read)
)
KEY_PREFIXES = ("arq:", f"{PACKAGE}:")


@dataclass(frozen=True)
class Import:
    """One imported module or name, `module` absolute; `name` is None for `import module`."""

    line: int
    module: str
    name: str | None
    relative: bool


def violations(root: Path) -> list[str]:
    """Everything that breaks a rule in the tree below root, as `file:line: what is wrong`."""
    found: list[str] = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        place = path.relative_to(root)
        found += [f"{place}:{line}: {text}" for line, text in _package_violations(place, tree)]
    public = public_names(root)
    for path in _service_files(root):
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        found += [f"{path.relative_to(root)}:{line}: {text}" for line, text in _service_violations(tree, public)]
    return found


def public_names(root: Path) -> frozenset[str]:
    """`arqestra.__all__`, read without importing it."""
    tree = ast.parse((root / PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
                return frozenset(ast.literal_eval(node.value))
    return frozenset()


def imports_of(tree: ast.Module, place: Path) -> Iterator[Import]:
    """Every import of the module at `place` (relative to the root), wherever in it."""
    package = place.parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, None, relative=False)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package[: len(package) - node.level + 1]
                module = ".".join([*base, *([module] if module else [])])
            for alias in node.names:
                yield Import(node.lineno, module, alias.name, relative=node.level > 0)


def _package_violations(place: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for item in imports_of(tree, place):
        yield from _import_violations(place, item)
    if place.parts[1] != "store":
        yield from _command_violations(tree)
    if place != KEYS:
        yield from _key_violations(tree)


def _import_violations(place: Path, item: Import) -> Iterator[tuple[int, str]]:
    if item.module.split(".")[0] != PACKAGE:
        if item.relative:
            yield item.line, "a relative import leaves the package"
    elif not item.relative:
        yield item.line, f"expected a relative import inside the package, got {item.module}"
    elif item.module == PACKAGE and place != INIT and not _is_module(item.name):
        yield item.line, f"{item.name} is imported from the package's own __init__; import it from its module"


def _is_module(name: str | None) -> bool:
    """Whether arqestra has a module or folder of this name at its top."""
    folder = REPOSITORY / PACKAGE
    return name is not None and ((folder / name).is_dir() or (folder / f"{name}.py").is_file())


def _command_violations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in COMMANDS:
            yield node.lineno, f"the Redis command .{node.func.attr}( outside arqestra/store"
    for line, text in _literals(tree):
        word = text.split(" ")[0]
        if word.isupper() and word.lower() in COMMANDS:
            yield line, f"the Redis command {word!r} outside arqestra/store"


def _key_violations(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, text in _literals(tree):
        if text.startswith(KEY_PREFIXES):
            yield line, f"the Redis key {text!r} outside arqestra/protocol/keys.py"


def _literals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """String literals that are not docstrings, with their lines."""
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def _service_violations(tree: ast.Module, public: frozenset[str]) -> Iterator[tuple[int, str]]:
    allowed = public | {"embedded"}
    for item in imports_of(tree, Path("service.py")):
        if item.relative or item.module.split(".")[0] != PACKAGE or item.module == f"{PACKAGE}.embedded":
            continue
        if item.module != PACKAGE:
            yield item.line, f"the service imports {item.module}; expected public names of {PACKAGE} alone"
        elif item.name is not None and item.name not in allowed:
            yield item.line, f"{item.name} is not in {PACKAGE}.__all__"
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="arqestra"), attr=attribute) if attribute not in allowed:
                yield node.lineno, f"{PACKAGE}.{attribute} is not in {PACKAGE}.__all__"


def _service_files(root: Path) -> Iterator[Path]:
    for name in SERVICE:
        path = root / name
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        elif path.is_file():
            yield path


def main(root: Path) -> int:
    """Print what breaks a rule in the tree below root; returns the exit code."""
    found = violations(root)
    for line in found:
        print(line)
    print(f"import direction: {f'{len(found)} violations' if found else 'in order'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(REPOSITORY))
