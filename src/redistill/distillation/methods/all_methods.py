"""Imports every method, so that ``finetune.method`` can name it: each file of this folder.

Apart from ``base``, so that a stage that uses one method does not depend on the code of all.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import fields

from redistill.distillation import methods
from redistill.distillation.methods.base import MethodParams


def all_methods() -> dict[str, type[MethodParams]]:
    """Settings of every method by name.

    Raises:
        TypeError: two files use one name, or settings have no default for their name.
    """
    kinds: dict[str, type[MethodParams]] = {}
    for info in pkgutil.iter_modules(methods.__path__):
        module = importlib.import_module(f"{methods.__name__}.{info.name}")
        for kind in vars(module).values():
            # A base that several methods share has no name; a class that a file only imports belongs to another file.
            if not isinstance(kind, type) or not issubclass(kind, MethodParams) or kind.__module__ != module.__name__:
                continue
            if kind is MethodParams or "name" not in {field.name for field in fields(kind)}:  # type: ignore[arg-type]
                continue
            if not isinstance(name := getattr(kind, "name", None), str) or name in kinds:
                raise TypeError(f"{module.__name__}.{kind.__name__}: give it a name of its own, as its field's default")
            kinds[name] = kind
    return dict(sorted(kinds.items()))


MethodParams.KINDS.update(all_methods())
