"""Which code is installed on a node: replicas may only work beside a driver that runs the same."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from redistill.io.digests import canonical_digest, file_digest

_DISTRIBUTIONS = ("torch", "transformers", "tokenizers")


def installed_code(packages: Sequence[str]) -> str:
    """One digest of every Python file of these packages, and of the versions of the libraries that compute. A build such as ``+cpu`` does not count."""
    files = dict[str, str]()
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        folder = Path(spec.origin).parent
        files |= {f"{package}/{path.relative_to(folder).as_posix()}": file_digest(path) for path in sorted(folder.rglob("*.py"))}
    return canonical_digest([files, {name: metadata.version(name).partition("+")[0] for name in _DISTRIBUTIONS}])
