"""Sealed files: nobody reads them by accident.

A sealed file starts with lines that say what it is and why it should stay closed. The rest is compressed. This is no protection from a person who
wants to read it, and it is not encryption: a signature beside the file says that nobody changed it.
"""

from __future__ import annotations

import zlib
from pathlib import Path

from redistill.errors import DataError
from redistill.io.atomic import replacing

SUFFIX = ".sealed"
_HEADER = (
    b"redistill: sealed results on held-out rows.\n"
    b"Whoever chooses a model, a prompt or a training row after reading them makes promote.alpha_per_heldout untrue.\n"
    b"`redistill heldout retire` opens them, when this held-out set decides nothing any more.\n"
    b"--\n"
)


def seal(file: Path, content: bytes) -> None:
    """Write ``content`` to a sealed file.

    Raises:
        DataError: the disk refuses the write.
    """
    with replacing(file) as temporary:
        temporary.write_bytes(_HEADER + zlib.compress(content, 9))


def unseal(file: Path) -> bytes:
    """The content of a sealed file.

    Raises:
        DataError: it is missing, is not a sealed file, or was damaged.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise DataError(f"sealed file {file} cannot be read ({error.strerror or error}); run the stage `heldout` again") from error
    try:
        if not raw.startswith(_HEADER):
            raise ValueError("its first lines are not those of a sealed file")
        return zlib.decompress(raw[len(_HEADER) :])
    except (ValueError, zlib.error) as error:
        raise DataError(f"sealed file {file} is damaged ({error}); run the stage `heldout` again") from error
