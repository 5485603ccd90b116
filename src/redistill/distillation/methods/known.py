"""Imports every method, so that ``finetune.method`` can name it: each file of this folder.

Apart from ``base``, so that a stage that uses one method does not depend on the code of all.
"""

from __future__ import annotations

import importlib
import pkgutil

from redistill.distillation import methods
from redistill.distillation.methods.base import MethodParams


def known_methods() -> dict[str, type[MethodParams]]:
    """Settings of every method by name."""
    for module in pkgutil.iter_modules(methods.__path__):
        importlib.import_module(f"{methods.__name__}.{module.name}")
    return dict(sorted(MethodParams.KINDS.items()))


known_methods()
