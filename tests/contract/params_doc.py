"""docs/params.md, made from the strings under the fields of params. ``python -m tests.contract.params_doc --fix`` writes it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import sys
import textwrap
import typing
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import yaml

from redistill.distillation.methods.all_methods import all_methods
from redistill.params import Params
from redistill.promotion.params import GateParams
from tests.tiny_project import ROOT

FILE = ROOT / "docs" / "params.md"
HEAD = """# params.yaml, key by key

The settings of a project. redistill never changes this file. Unknown keys, missing keys, wrong types, impossible values and sections that do not fit each other are
reported together, each with its full key. `redistill init` writes a file that is valid.

This page is made from the strings under the fields in `src/redistill/*/params.py` (`python -m tests.contract.params_doc --fix`). A default of "–" means: left out.
"""


@cache
def field_docs(kind: type) -> dict[str, str]:
    """The string under each field of a class and of its bases, on one line."""
    inherited = {
        name: text for base in reversed(kind.__bases__) if dataclasses.is_dataclass(base) for name, text in field_docs(base).items()
    }
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(after.value.value).split())
    return inherited | found


def rows(kind: type, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Key, meaning and default of every key below a section, those of parts of it too."""
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        key, printed = prefix + field.name, set[str]()
        yield key, field_docs(kind)[field.name], default(field)
        for inner in parts_of(hints[field.name]):
            for row in rows(inner, key + {list: "[].", dict: ".NAME."}.get(container(hints[field.name]), ".")):
                # What several kinds of a part have is printed once.
                if row[0] not in printed:
                    printed.add(row[0])
                    yield row


def default(field: dataclasses.Field[Any]) -> str:
    value = field.default
    if hasattr(value, "default"):  # pydantic's own field object
        value = dataclasses.MISSING if value.is_required() else value.get_default(call_default_factory=True)
    if value is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    if value is dataclasses.MISSING:
        return "required"
    if dataclasses.is_dataclass(value) or (isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0])):
        return ""
    if value is None:
        return "–"
    if isinstance(value, str) and "\n" in value:
        return f"`{json.dumps(value)}`"
    return f"`{yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True).removesuffix(chr(10)).removesuffix(chr(10) + '...')}`"


def parts_of(hint: Any) -> list[type]:
    """The params classes within an annotation, gates excepted: they have a table of their own."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return [] if hint in typing.get_args(typing.get_args(GateParams)[0]) else [hint]
    return [part for inner in typing.get_args(hint) for part in parts_of(inner)]


def container(hint: Any) -> type | None:
    origin = typing.get_origin(hint)
    return list if origin is tuple else dict if origin is dict else None


def table(kind: type) -> str:
    lines = [f"| `{key}` | {meaning} | {value} |" for key, meaning, value in rows(kind)]
    return "\n".join(["| key | meaning | default |", "|---|---|---|", *lines])


def page() -> str:
    parts = [HEAD]
    for name, kind in typing.get_type_hints(Params).items():
        parts.append(f"## {name}\n\n{' '.join((kind.__doc__ or '').split())}\n\n{table(kind)}\n")
    parts.append(
        "## Methods\n\nWhat `finetune.method` and `finetune.arms.NAME.method` may be. Which to choose: [methods](methods/README.md).\n"
    )
    parts += [*named(all_methods().values()), ""]
    parts.append("## Gates\n\nWhat `promote.gates` may list. Meanings and limits: [gates.md](gates.md).\n")
    parts += named(typing.get_args(typing.get_args(GateParams)[0]))
    return "\n".join(parts) + "\n"


def named(kinds: Iterable[type]) -> Iterator[str]:
    """A line for each class that is chosen by its name: what it is, and its settings."""
    for kind in kinds:
        names = ", ".join(f"`{n}`" for n in typing.get_args(typing.get_type_hints(kind)["name"]))
        settings = [f"`{f.name}`: {field_docs(kind)[f.name]} Default {default(f)}." for f in dataclasses.fields(kind) if f.name != "name"]
        yield f"- {names}: {' '.join((kind.__doc__ or '').split())} {' '.join(settings)}".rstrip()


if __name__ == "__main__":
    if "--fix" in sys.argv:
        FILE.write_text(page(), encoding="utf-8")
    elif page() != FILE.read_text(encoding="utf-8"):
        sys.exit("error: docs/params.md differs from the strings under the fields; run python -m tests.contract.params_doc --fix")
