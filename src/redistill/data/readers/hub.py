"""Rows of a hub data set, or of a local directory in hub layout, through the ``datasets`` library."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redistill.data.readers.files import hub_directory
from redistill.errors import DataError

HUB_SOURCE = re.compile(r"hf:(?P<name>[./][^:#]*|[^@:#]+)(?:#(?P<config>[^@:]+))?(?:@(?P<revision>[^:]+))?(?::(?P<split>.+))?")


_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")


def hub_builder(path: str, root: Path) -> Any:
    import datasets

    hub = HUB_SOURCE.fullmatch(path)
    assert hub is not None
    name = str(hub_directory(path, hub["name"], root).resolve()) if hub["name"][0] in "./" else hub["name"]
    try:
        return datasets.load_dataset_builder(name, hub["config"], revision=hub["revision"])
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> DataError:
    # The library quotes values of rows.
    reason = _QUOTED.sub("…", (str(error).splitlines() or [""])[0])
    return DataError(
        f"{path}: the datasets library cannot read it ({type(error).__name__}: {reason}); check id, revision, split and network"
    )


def hub_rows(path: str, root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import datasets

    builder = hub_builder(path, root)
    hub = HUB_SOURCE.fullmatch(path)
    split = (hub and hub["split"]) or "train"
    try:
        # Streaming, so that nothing is written to a cache outside the project.
        rows = builder.as_streaming_dataset(split=split)
        names = {key: f for key, f in (rows.features or {}).items() if isinstance(f, datasets.ClassLabel)}
        for number, row in enumerate(rows, 1):
            # A hub label is a number; what it stands for is in the features. −1 is the hub's "no label".
            named = {key: f.int2str(row[key]) if row[key] is not None and row[key] >= 0 else None for key, f in names.items()}
            yield f"row {number}", {**row, **named}
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise _unreadable(path, error) from None
