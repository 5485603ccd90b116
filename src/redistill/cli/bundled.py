"""Where flows and tasks come from. The wheel carries them inside this package, so that no top-level ``flows`` or ``tasks`` is installed."""

from __future__ import annotations

from pathlib import Path

import redistill

_PACKAGE = Path(redistill.__file__).parent
PARTS = ("flows", "tasks")
_MARKS = ("flows/distill_student.py", "tasks/stages")
"""A folder called flows or tasks is redistill's only if it has one of these."""


def bundled_folder() -> Path:
    """The folder that holds this package's own ``flows`` and ``tasks``: inside an installed wheel, or the root of this repository's checkout."""
    installed = _PACKAGE / "application"
    return installed if installed.is_dir() else _PACKAGE.parents[1]


def application_folders(project: Path) -> list[Path]:
    """Folders to import ``flows`` and ``tasks`` from, the project's own first."""
    own = [project] if any((project / mark).exists() for mark in _MARKS) else []
    return [*own, *(folder for folder in [bundled_folder()] if folder not in own)]
