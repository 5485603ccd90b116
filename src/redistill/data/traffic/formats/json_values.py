"""The JSON values of a file, one after the other, in bounded memory: JSON Lines, an array, or one document. Each may be compressed with gzip."""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from redistill.data.traffic.formats.types import Broken
from redistill.errors import DataError

MOST_BYTES = 64 * 2**20
"""The largest record, or document that is no list of records."""
_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
_SPACE = " \t\r\n"


def json_values(path: str, file: Path) -> Iterator[tuple[str, Any]]:
    """Place ("line 3") and value of each record. A line that is no JSON is ``Broken``, and the next one is read.

    Raises:
        DataError: the file is missing, empty, or an incomplete gzip file.
    """
    if not file.is_file():
        raise DataError(f"{path} is {'a directory, not a file' if file.is_dir() else 'missing'}; name the exported file")
    with open(file, "rb") as raw:
        handle: Any = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == _GZIP else raw
        try:
            yield from _values(path, handle)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path} is not a complete gzip file ({error}); compress it again") from None


def _values(path: str, handle: IO[bytes]) -> Iterator[tuple[str, Any]]:
    number, first = 1, handle.readline(MOST_BYTES + 1).removeprefix(codecs.BOM_UTF8)
    while first and not first.strip():
        number, first = number + 1, handle.readline(MOST_BYTES + 1)
    if not first:
        raise DataError(f"{path} is empty; export the traces again")
    if first.lstrip()[:1] == b"[":
        yield from _elements(first, number, handle)
        return
    value = _parsed(first)
    if isinstance(value, Broken):
        # A document over several lines. Of lines, only those are held that a document may have.
        rest = handle.read(MOST_BYTES)
        whole = _parsed(first + rest)
        if not isinstance(whole, Broken):
            yield f"line {number}", whole
            return
        yield from _lines(number, first, _again(rest, handle))
        return
    yield from _lines(number, first, _again(b"", handle))


def _again(rest: bytes, handle: IO[bytes]) -> Iterator[bytes]:
    """The lines of what was read already, then those of the file."""
    for line in io.BytesIO(rest):
        yield line if line.endswith(b"\n") else line + handle.readline(MOST_BYTES + 1)
    while line := handle.readline(MOST_BYTES + 1):
        yield line


def _lines(number: int, first: bytes, others: Iterator[bytes]) -> Iterator[tuple[str, Any]]:
    goes_on = False
    for line in itertools.chain([first], others):
        too_long, ended = len(line) > MOST_BYTES, line.endswith(b"\n")
        if too_long and not goes_on:
            yield f"line {number}", Broken(f"longer than {MOST_BYTES // 2**20} MB; a record cannot be so large")
        elif line.strip() and not goes_on:
            yield f"line {number}", _parsed(line)
        # The rest of a line that is too long comes in pieces.
        goes_on = not ended and (too_long or goes_on)
        number += ended


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except UnicodeDecodeError as error:
        return Broken(f"byte {error.start} is not UTF-8")
    except (ValueError, RecursionError) as error:
        return Broken(f"invalid JSON ({str(error)[:100]})")


class _Buffer:
    """Text of an array, of which only the part is held that is not read yet."""

    def __init__(self, first: bytes, line: int, handle: IO[bytes]) -> None:
        self._decode, self._handle = codecs.getincrementaldecoder("utf-8")(), handle
        self.text, self.place, self.line, self.ended = self._decode.decode(first), 0, line, False

    def more(self) -> bool:
        """Read on, at least as much as is held, so that a large record is not tried again and again. False at the end."""
        raw = self._handle.read(max(_CHUNK, len(self.text) - self.place))
        self.ended = not raw
        self.text, self.place = self.text[self.place :] + self._decode.decode(raw, final=not raw), 0
        return not self.ended

    def skip(self, characters: str) -> str:
        """Go to the next character that is none of these; empty at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in characters:
                self.line += self.text[self.place] == "\n"
                self.place += 1
            if self.place < len(self.text):
                return self.text[self.place]
            if not self.more():
                return ""

    def value(self) -> Any:
        """The value at this place. ``Broken`` if there is none, also after all that follows."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.place)
            except (ValueError, RecursionError) as error:
                if len(self.text) - self.place > MOST_BYTES or isinstance(error, RecursionError) or not self.more():
                    return Broken(f"invalid or incomplete JSON ({str(error).split(':')[0][:100]}); nothing behind it can be read")
                continue
            self.line += self.text.count("\n", self.place, end)
            self.place = end
            return value


_DECODER = json.JSONDecoder()


def _elements(first: bytes, line: int, handle: IO[bytes]) -> Iterator[tuple[str, Any]]:
    try:
        buffer = _Buffer(first, line, handle)
        buffer.skip(_SPACE)
        buffer.place += 1
        while (character := buffer.skip(_SPACE + ",")) != "]":
            where = f"line {buffer.line}"
            value = buffer.value() if character else Broken("the list does not end; the file is incomplete")
            yield where, value
            if isinstance(value, Broken):
                return
    except UnicodeDecodeError as error:
        yield f"line {line}", Broken(f"the file is not UTF-8 ({error.reason}); save it as UTF-8 text")
