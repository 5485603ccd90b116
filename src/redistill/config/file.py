"""``params.yaml`` as a tree, and the sections of it as checked records. Every problem is reported at once, one line in all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from redistill.config import yaml_keys
from redistill.config.base import Section
from redistill.errors import ConfigError

_T = TypeVar("_T")

PARAMS = "params.yaml"
_SHOWN = 30
"""Problems that one line lists."""
_SHOWN_CHARS = 80


def read_tree(path: str | os.PathLike[str] = PARAMS) -> dict[str, Any]:
    """The file as YAML.

    Raises:
        ConfigError: the file is missing, is not UTF-8 or not YAML, has a duplicate key, or is not a mapping.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file} not found: run this from a project directory, or name one with -C DIR") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a directory, not a file; name the project directory that holds it with -C DIR") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror or error}); fix its permissions") from None
    try:
        tree = yaml_keys.load(text, str(file))
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    return mapping(tree, str(file))


def mapping(tree: object, where: str) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} must contain a mapping of sections (data, intake, …), not {type(tree).__name__}")
    return tree


def load_sections(kinds: Sequence[type[Section]], path: str | os.PathLike[str] = PARAMS, **names: str) -> list[Any]:
    """Only these sections; the others are not checked. ``names`` are the values for braces in a section's name.

    Raises:
        ConfigError: as ``read_tree``, and one line for all problems of these sections.
    """
    tree, sections, problems = read_tree(path), list[Any](), list[str]()
    for kind in kinds:
        key = kind.SECTION.format(**names)
        try:
            section, wrong = validated(kind, _at(tree, key), key)
        except KeyError:
            section, wrong = None, [f"{key} is missing"]
        sections.append(section)
        problems += wrong
    if problems:
        raise several(str(path), problems)
    return sections


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(tree, dict) or tree.get(part) is None:
            raise KeyError(key)
        tree = tree[part]
    return tree


def validated(kind: type[_T], tree: object, section: str) -> tuple[_T | None, list[str]]:
    """The record, or the problems of ``tree``."""
    try:
        return TypeAdapter(kind).validate_python(tree), []
    except ValidationError as error:
        return None, [_describe(e, section) for e in error.errors(include_url=False)]


def several(where: str, problems: Sequence[str]) -> ConfigError:
    more = [f"and {len(problems) - _SHOWN:,} more"] if len(problems) > _SHOWN else []
    return ConfigError(f"{where}: {len(problems):,} problem{'s' * (len(problems) > 1)}: " + " | ".join([*problems[:_SHOWN], *more]))


def _describe(problem: Any, section: str) -> str:
    key = ".".join([section, *_keys(problem["loc"])])
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key} is not a known key"
    if problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    value = problem.get("input")
    shown = "" if isinstance(value, dict | list) or problem["type"] == "value_error" else f" (given: {_short(value)})"
    return f"{key}: {message}{shown}"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARS else f"{shown[: _SHOWN_CHARS - 1]}…"


def _keys(location: Iterable[object]) -> list[str]:
    """Keys and indices. Pydantic also names the branch of a union, which is not part of the file."""
    return [str(part) for part in location if not (isinstance(part, str) and (part.endswith("]") or part.endswith("()")))]
