"""Signatures of entries in MLflow: lines of the history, and looks. Anybody who can write to MLflow can write such an entry, but not sign it.

Earlier entries have no signature. The first signed one of a list pins them: it has a digest of all entries that were there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from redistill.io.digests import canonical_digest
from redistill.provenance import keys
from tasks.paths import STATE

Trust = Literal["signed", "unsigned", "foreign", "forged"]
"""``foreign``: signed by a key that this project does not know. ``forged``: the signature of a known key does not fit."""
_SAID: set[str] = set()


def signature_of(text: str, kind: str, data_name: str) -> str:
    """Sign an entry. Its kind and the name of the data are signed with it, so that it counts in no other list.

    Raises:
        RegistryError: the signing key is lost.
        ConfigError: it cannot sign.
    """
    return keys.sign_text(_bound(text, kind, data_name), keys.signing_key(STATE))


class Trusted:
    """The keys of this project, read once for many entries. Without any key, nothing can be verified here, and every entry is read as it is."""

    def __init__(self) -> None:
        self._keys = keys.public_keys(STATE) if keys.has_key(STATE) else None

    def trust(self, text: str, signature: str | None, kind: str, data_name: str) -> Trust:
        if self._keys is None:
            return "signed"
        if signature is None:
            return "unsigned"
        fits = keys.text_is_signed(_bound(text, kind, data_name), signature, self._keys)
        return "foreign" if fits is None else "signed" if fits else "forged"


def pin(texts: Iterable[str]) -> str:
    """The digest of the entries that have no signature; empty if there are none."""
    every = sorted(texts)
    return canonical_digest(every) if every else ""


def say_once(line: str) -> None:
    """Print a line the first time that this process has it."""
    if line not in _SAID:
        _SAID.add(line)
        print(line)


def _bound(text: str, kind: str, data_name: str) -> str:
    return f"{kind}\n{data_name}\n{text}"
