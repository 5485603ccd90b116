"""The file of a source, and its bytes as text. Errors name the file and line."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from redistill.errors import DataError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_GZIP = b"\x1f\x8b"


def described(value: Any) -> str:
    """What a value of a row is, without the value: rows can contain personal data and secrets, and errors are logged and mailed."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return f"a text of {len(value):,} character{'s' * (len(value) != 1)}"
    if isinstance(value, int):
        return "a whole number"
    if isinstance(value, float):
        return "a decimal number"
    if isinstance(value, list | tuple):
        return f"a list of {len(value):,}"
    return f"an object with {len(value):,} keys" if isinstance(value, dict) else f"a value of type {type(value).__name__}"


_PLAIN_NAME = re.compile(r"[^\W\d][\w.-]*(?: [\w.-]+){0,2}")
_LONGEST_NAME, _MOST_NAME_DIGITS = 40, 4


def shown_names(names: Iterable[Any]) -> str:
    """Names of columns for an error. Where a file has no header, its first row stands there, so what looks like no name is only counted."""
    listed = sorted(map(str, names))
    plain = [n for n in listed if len(n) <= _LONGEST_NAME and _PLAIN_NAME.fullmatch(n) and sum(map(str.isdigit, n)) <= _MOST_NAME_DIGITS]
    others = len(listed) - len(plain)
    more = [f"{others} that look{'s' * (others == 1)} like no name"] if others else []
    return ", ".join([*plain, *more]) or "nothing"


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


def text_lines(path: str, file: Path) -> Iterator[str]:
    """The lines of a text file, each with the line feed that ends it. ``path`` is what errors call it.

    Raises:
        DataError: neither UTF-8 nor UTF-16, or an incomplete gzip file.
    """
    with open(file, "rb") as raw:
        compressed = raw.read(2) == _GZIP
        raw.seek(0)
        handle: Any = gzip.GzipFile(fileobj=raw) if compressed else raw
        try:
            yield from _decoded(path, handle)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is not a complete gzip file ({error}); compress it again") from None


def _decoded(path: str, handle: IO[bytes]) -> Iterator[str]:
    first = handle.readline()
    if first[:2] in _UTF16:
        yield from _utf16(path, first + handle.read())
        return
    start, number, raw = 0, 1, first
    while raw:
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}: byte {start + error.start} is not UTF-8; save the file as UTF-8 text and try again"
            ) from None
        yield line.removeprefix("\ufeff") if start == 0 else line
        start, number, raw = start + len(raw), number + 1, handle.readline()


def _utf16(path: str, raw: bytes) -> Iterator[str]:
    try:
        text = raw.decode("utf-16")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-16, as its first bytes say; save the file as UTF-8 text and try again"
        ) from None
    yield from text.splitlines(keepends=True) if "\n" not in text else (f"{line}\n" for line in text.removesuffix("\n").split("\n"))
