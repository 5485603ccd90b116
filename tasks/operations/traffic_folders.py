"""The folders that have logged requests: the router's, that of imports, those that params name, and others that imports wrote into."""

from __future__ import annotations

from pathlib import Path

from redistill.errors import DataError
from redistill.io.json import read_json, write_json
from redistill.params import Params
from tasks.paths import IMPORTS, STATE, TRAFFIC

_INTO = STATE / "imported_into.json"
_ROUTER = "router"


def traffic_folders(params: Params) -> tuple[Path, ...]:
    """Each folder once, as far as it is there.

    Raises:
        DataError: the list of folders is damaged.
    """
    named = [Path(source.traffic) for source in params.data.traffic if source.traffic != _ROUTER]
    every = {folder.resolve(): folder for folder in (TRAFFIC, IMPORTS, *named, *map(Path, _noted())) if folder.is_dir()}
    return tuple(every.values())


def note_folder(folder: Path) -> None:
    """Remember that an import writes here, so that `redistill forget` looks here too, also if params never name the folder."""
    noted = _noted()
    if folder.as_posix() not in noted and folder.resolve() != IMPORTS.resolve():
        write_json(_INTO, {"folders": sorted([*noted, folder.as_posix()])})


def _noted() -> list[str]:
    if not _INTO.is_file():
        return []
    try:
        return [str(folder) for folder in read_json(_INTO)["folders"]]
    except (KeyError, TypeError):
        raise DataError(f"{_INTO} is damaged; delete it, and import once more into each folder that params.yaml does not name") from None
