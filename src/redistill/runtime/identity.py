"""The one place that says who acts, and whether two names are one person's."""

from __future__ import annotations

import getpass
import os
import unicodedata

USER = "REDISTILL_USER"


def current_user() -> str:
    """The name of the current user: ``REDISTILL_USER``, which an auth layer can set, else the account."""
    return " ".join(os.environ.get(USER, "").split()) or getpass.getuser()


def same_person(one: str | None, other: str | None) -> bool:
    """Whether two names are the same but for case, spaces and the form of their letters. An unknown person is nobody."""
    return bool(_folded(one)) and _folded(one) == _folded(other)


def _folded(name: str | None) -> str:
    # Twice: folding can leave letters that another normal form joins.
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name or "").casefold()).split())
