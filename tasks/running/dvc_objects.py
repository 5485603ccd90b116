"""The objects in DVC's cache: which there are, and which a list of digests needs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from redistill.errors import DataError

_OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")
_HEX = re.compile("[0-9a-f]{2}")


def objects(cache: Path) -> Iterator[tuple[str, Path]]:
    """Digest and file of every object. A digest that ends in ``.dir`` is that of a folder's list of files."""
    for file in sorted((cache / "files" / "md5").glob("??/*")):
        if _OBJECT.fullmatch(file.name) and file.is_file():
            yield file.parent.name + file.name, file


def is_digest(text: str) -> bool:
    """Whether a text is the digest of an object."""
    return _OBJECT.fullmatch(text[2:]) is not None and _HEX.fullmatch(text[:2]) is not None


def tracked_by_hand(project: Path) -> frozenset[str]:
    """The digests in the project's ``.dvc`` files, which `dvc add` writes. Hidden folders have none.

    Raises:
        DataError: one of them cannot be read.
    """
    digests = set[str]()
    for folder, names, files in os.walk(project):
        names[:] = [name for name in names if not name.startswith(".")]
        for file in (Path(folder, name) for name in files if name.endswith(".dvc")):
            try:
                outs = yaml.safe_load(file.read_text(encoding="utf-8"))["outs"]
                digests |= {str(out["md5"]) for out in outs if "md5" in out}
            except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
                raise DataError(f"{file} cannot be read ({type(error).__name__}); restore it from git, then try again") from None
    return frozenset(digests)


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
