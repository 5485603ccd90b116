"""The file of a source, and its bytes as text. Errors name the file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redistill.errors import DataError


def shown_value(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def source_file(path: str, root: Path, key: str = "data.source") -> Path:
    """A file that ``params.yaml`` names at ``key``.

    Raises:
        DataError: it is missing, or a directory.
    """
    file = root / path
    if not file.is_file():
        raise DataError(
            f"{path} is {'a directory, not a file' if file.is_dir() else 'missing'}; correct {key} in params.yaml ({file.resolve()})"
        )
    return file


def hub_directory(path: str, name: str, root: Path) -> Path:
    if not (root / name).is_dir():
        raise DataError(f"{path}: the directory {(root / name).resolve()} does not exist; correct data.source in params.yaml")
    return root / name


def decoded(path: str, line: int, start: int, raw: bytes) -> str:
    try:
        text = raw.decode()
        return text.removeprefix("\ufeff") if start == 0 else text
    except UnicodeDecodeError as error:
        line += raw[: error.start].count(b"\n")
        raise DataError(
            f"{path}, line {line}: byte {start + error.start} is not UTF-8; save the file as UTF-8 text and try again"
        ) from None
