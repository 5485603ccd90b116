"""Looks for secrets in everything that is kept: in plain, in base64, and as addresses write them."""

from __future__ import annotations

import base64
import gzip
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus


def forms(secret: str) -> set[bytes]:
    """How a secret may be written. Base64 encodes three bytes at a time, so a secret has three forms there, after what stands before it."""
    raw = secret.encode()
    plain = {raw, quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode()}
    encoded = set[bytes]()
    for before in (b"", b"x", b"xx"):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            # What depends on the bytes before and after it is cut off.
            skip = -(-8 * len(before) // 6)
            whole = encode(before + raw).rstrip(b"=")
            encoded.add(whole[skip : (8 * (len(before) + len(raw))) // 6])
    return plain | encoded


def places_with(texts: Iterable[tuple[str, bytes]], secrets: Mapping[str, str]) -> list[str]:
    """``NAME in PLACE`` for each place that has a secret."""
    spellings = [(name, form) for name, secret in secrets.items() for form in forms(secret)]
    return sorted({f"{name} in {place}" for place, content in texts for name, form in spellings if form in content})


def of_folder(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, also inside of archives."""
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.is_symlink():
            continue
        yield str(file), file.read_bytes()
        if file.name.endswith(".tar.gz"):
            with tarfile.open(file) as archive:
                for member in archive:
                    if (content := archive.extractfile(member)) is not None:
                        yield f"{file}:{member.name}", content.read()
        elif file.suffix == ".gz":
            yield f"{file} (unpacked)", gzip.decompress(file.read_bytes())
