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
_TITLE = b"redistill: sealed results on held-out rows.\n"
_END = b"--\n"
_HEADER = (
    _TITLE + b"Please do not read them. If people use them to choose a model, a prompt or training rows, the promise of\n"
    b"promote.alpha_per_heldout does not hold any more. `redistill heldout retire` shows them when this set is no longer used for decisions.\n"
)


def seal(file: Path, content: bytes) -> None:
    """Write ``content`` to a sealed file.

    Raises:
        DataError: the disk refuses the write.
    """
    with replacing(file) as temporary:
        temporary.write_bytes(_HEADER + _END + zlib.compress(content, 9))


def is_sealed(file: Path) -> bool:
    """Whether a file begins as a sealed one."""
    with open(file, "rb") as handle:
        return handle.read(len(_TITLE)) == _TITLE


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
        _, end, content = raw.partition(_END)
        # Only the first line is compared, so that files with another wording stay readable.
        if not raw.startswith(_TITLE) or not end:
            raise ValueError("its first lines are not those of a sealed file")
        return zlib.decompress(content)
    except (ValueError, zlib.error) as error:
        raise DataError(f"sealed file {file} is damaged ({error}); run the stage `heldout` again") from error
