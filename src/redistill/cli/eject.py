"""``redistill eject``: flows and tasks copied into the project, to change them."""

from __future__ import annotations

import shutil
from pathlib import Path

from redistill.cli.bundled import PARTS, bundled_folder
from redistill.cli.project import Json, show
from redistill.errors import ConfigError


def eject(as_json: Json = False) -> None:
    """Copy this package's flows/ and tasks/ into the project, which from then on uses its own. dvc.yaml stays as it is.

    For changes that params.yaml does not offer, such as another stage. Later versions of redistill no longer change these copies.
    Keep your own modules inside tasks/: only there does a change make stages run again.

    Example: redistill -C triage eject
    """
    if not Path("params.yaml").is_file():
        raise ConfigError(f"{Path.cwd().name}/ has no params.yaml; eject runs in a project, or name one with -C DIR")
    there = [part for part in PARTS if Path(part).exists()]
    if there:
        raise ConfigError(f"{' and '.join(f'{part}/' for part in there)} exist in this project already, and nothing is overwritten")
    for part in PARTS:
        shutil.copytree(bundled_folder() / part, part, ignore=shutil.ignore_patterns("__pycache__"))
    show({"copied": list(PARTS)}, as_json, [f"copied {' and '.join(f'{part}/' for part in PARTS)}; this project uses them from now on"])
