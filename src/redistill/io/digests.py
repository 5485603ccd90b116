"""Digests of values, files and directories; the same on every machine."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from redistill.errors import DataError


def canonical_digest(value: Any) -> str:
    """Sha256 of the canonical JSON of a value: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def tree_digest(path: str | os.PathLike[str]) -> str:
    """Sha256 over relative names and contents of a file or directory; the same on every machine."""
    root = Path(path)
    if not root.exists():
        raise DataError(f"{root} is missing; run the stage that writes it")
    if root.is_file():
        return file_digest(root)
    digest = hashlib.sha256()
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()
