"""The objects in DVC's cache: which there are, and which a list of digests needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from redistill.errors import DataError

_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")


def objects(cache: Path) -> Iterator[tuple[str, Path]]:
    """Digest and file of every object. A digest that ends in ``.dir`` is that of a folder's list of files."""
    for file in sorted((cache / "files" / "md5").glob("??/*")):
        if _OBJECT.fullmatch(file.name) and file.is_file():
            yield file.parent.name + file.name, file


def object_file(cache: Path, digest: str) -> Path:
    return cache / "files" / "md5" / digest[:2] / digest[2:]


def with_content(cache: Path, digests: Iterable[str]) -> frozenset[str]:
    """The digests, and for each folder also those of the files in it, as far as the cache has the list.

    Raises:
        DataError: a list in the cache is damaged.
    """
    needed = set[str]()
    for digest in digests:
        needed.add(digest)
        file = object_file(cache, digest)
        if digest.endswith(".dir") and file.is_file():
            try:
                needed |= {str(entry["md5"]) for entry in json.loads(file.read_bytes())}
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{file} in DVC's cache is damaged ({error}); delete it, then run `dvc pull` or a cycle") from None
    return frozenset(needed)
