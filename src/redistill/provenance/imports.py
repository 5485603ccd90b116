"""Which files of ours a module runs: its imports, and theirs, read from the source text.

A stored result is stale when the code that computed it changes, so it is stored with a digest of that code. The list of files is derived from the imports,
both at the top of a file and inside functions. Nobody keeps it by hand. Files are parsed and never run.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from redistill.io.digests import canonical_digest, file_digest


def closure(module: str, packages: Mapping[str, Path]) -> dict[str, Path]:
    """Module name → file, for ``module`` and all that it imports from ``packages`` (name → folder), directly or not.

    ``from package import name`` is the module ``package.name`` where there is one, else the package itself.

    Raises:
        ModuleNotFoundError: ``module`` is no file of these packages.
    """
    found: dict[str, Path] = {}
    waiting = [module]
    if _file_of(module, packages) is None:
        raise ModuleNotFoundError(f"{module} is no module of {', '.join(packages)}")
    while waiting:
        name = waiting.pop()
        file = _file_of(name, packages)
        if file is None or name in found:
            continue
        found[name] = file
        # The packages that a module lies in run first.
        waiting += [name.rpartition(".")[0], *_imported(name, file, packages)]
    return dict(sorted(found.items()))


def code_digest(module: str, packages: Mapping[str, Path]) -> str:
    """One digest of every file that ``module`` runs."""
    return canonical_digest({name: file_digest(file) for name, file in closure(module, packages).items()})


def folders(*packages: str) -> dict[str, Path]:
    """The folders of importable packages."""
    specs = {name: importlib.util.find_spec(name) for name in packages}
    return {name: Path(next(iter(spec.submodule_search_locations or ()))) for name, spec in specs.items() if spec is not None}


def _file_of(module: str, packages: Mapping[str, Path]) -> Path | None:
    root, *rest = module.split(".")
    if root not in packages:
        return None
    place = packages[root].joinpath(*rest)
    candidates = (place / "__init__.py", place.with_suffix(".py")) if rest else (place / "__init__.py",)
    return next((file for file in candidates if file.is_file()), None)


def _imported(module: str, file: Path, packages: Mapping[str, Path]) -> Iterator[str]:
    """Names of the modules of ``packages`` that one file imports."""
    for level, base, names in _statements(file.read_text(encoding="utf-8")):
        if not names:
            yield base
            continue
        absolute = _absolute(module, file, level, base)
        for name in names:
            inner = f"{absolute}.{name}"
            yield inner if _file_of(inner, packages) is not None else absolute


@cache
def _statements(text: str) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Import statements of a source text: leading dots, module, and the names that are taken from it (none for a plain import)."""
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return tuple(found)


def _absolute(module: str, file: Path, level: int, base: str) -> str:
    """The module that ``from … import`` names; dots count from the package that the file is in."""
    if not level:
        return base
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - level + 1], *([base] if base else [])])
