"""Licence review: a person has read the terms and recorded what is allowed, with a date.

Without reviewed, unexpired terms that allow the use, there is no teacher call, and no data is read. The digest binds the review to the text that was
read, so changed terms need a new review. The review also says what it is about: another teacher, or more data, needs a review of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError
from redistill.io.digests import file_digest
from redistill.validation.params import GovernanceParams, LicenceReview

COVERED = ("teacher", "outputs", "data")
_PLACEHOLDERS = {"", "-", "?", "n/a", "nobody", "nobody yet", "none", "tbd", "todo", "unknown"}


@dataclass(frozen=True, slots=True)
class Used:
    """What a project uses now, and what the lock says that was reviewed before."""

    model: str
    revision: str | None
    backend: str
    sources: tuple[str, ...]
    locked: tuple[dict[str, Any], ...] = ()
    """Reviews in the teacher's lock, each with what it was about (``of``)."""

    def of(self, covers: str) -> dict[str, Any]:
        """What a review of this kind must be about."""
        if covers == "data":
            return {"sources": list(self.sources)}
        return {"model": self.model, "revision": self.revision, "backend": self.backend}


def today_utc() -> dt.date:
    """The day by which reviews are valid: the same on every machine."""
    return dt.datetime.now(dt.UTC).date()


def review(params: GovernanceParams, used: Used, today: dt.date, root: Path) -> list[dict[str, Any]]:
    """Check every listed review and return what the lock records of it.

    Raises:
        ConfigError: something is not covered, not allowed, not filled in, expired, dated in the future, about something else, or its text has changed; all problems at once.
    """
    problems = [
        f"no entry in governance.licenses covers the {kind}; add one" for kind in COVERED if kind not in {x.covers for x in params.licenses}
    ]
    for x in params.licenses:
        where = f"governance.licenses {x.name!r} ({x.covers})"
        problems += [f"{where}: {problem}" for problem in (*_problems(x, today, root), *_unsaid(x, used))]
    problems += _uncovered(params, used)
    if problems:
        raise ConfigError("licence review stops the cycle before any teacher call: " + " | ".join(problems))
    return [
        {"name": x.name, "covers": x.covers, "licence": x.licence, "terms_sha256": x.terms_sha256, "reviewer": x.reviewer,
         "reviewed": x.reviewed.isoformat(), "expires": x.expires.isoformat(), "of": _about(x, used)}
        for x in params.licenses
    ]  # fmt: skip


def is_filled_in(text: str) -> bool:
    """Whether a person wrote something, and no placeholder."""
    return " ".join(text.split()).casefold() not in _PLACEHOLDERS


def data_licences(params: GovernanceParams, used: Used, source: str) -> frozenset[str]:
    """The licences that reviews of a source name. Whether the reviews are valid today, ``review`` checks."""
    reviews = [x for x in params.licenses if x.covers == "data" and x.allowed]
    return frozenset(x.licence for x in reviews if (about := _about(x, used)) is not None and source in about["sources"])


def _problems(x: LicenceReview, today: dt.date, root: Path) -> Iterator[str]:
    """What is wrong with an entry by itself."""
    terms = root / x.terms
    for field in ("name", "licence", "reviewer"):
        if x.allowed and not is_filled_in(getattr(x, field)):
            yield f"{field} is {getattr(x, field)!r}; write the {_MEANINGS[field]}"
    if not x.allowed:
        yield (
            f"not allowed (licence {x.licence}, reviewer {x.reviewer}); read the terms, keep their text in {x.terms}, and set licence, reviewer, "
            "reviewed, expires and allowed"
        )
    if x.expires < today:
        yield f"the review expired on {x.expires} (UTC); read the terms again and set reviewed and expires"
    if x.reviewed > today:
        yield f"reviewed on {x.reviewed}, which is in the future (UTC); correct reviewed"
    if not terms.is_file():
        yield f"its terms {x.terms} are missing; put the reviewed text there, and keep it with the project"
    elif file_digest(terms) != x.terms_sha256:
        yield f"{x.terms} has digest {file_digest(terms)}, but the review was of {x.terms_sha256}; read the text again and set terms_sha256"


_MEANINGS = {"name": "name of what was reviewed", "licence": "name of the licence", "reviewer": "person who read the terms"}


def _unsaid(x: LicenceReview, used: Used) -> Iterator[str]:
    """An entry that does not say what it is about. It is valid only for what the lock says that it was made for."""
    if _about(x, used) is not None:
        return
    if x.covers == "data":
        yield f"it does not say which data was reviewed; add sources: [{', '.join(used.sources)}]"
    else:
        revision = "" if used.revision is None else f", revision: {used.revision}"
        yield f"it does not say which teacher was reviewed; add model: {used.model!r}, backend: {used.backend}{revision}"


def _uncovered(params: GovernanceParams, used: Used) -> Iterator[str]:
    """What the project uses, and no entry is about."""
    for kind in ("teacher", "outputs"):
        about = [_about(x, used) for x in params.licenses if x.covers == kind]
        if about and None not in about and used.of(kind) not in about:
            then, now = (" ".join(str(v) for v in tree.values() if v is not None) for tree in (about[-1] or {}, used.of(kind)))
            yield (
                f"the {kind} {'were' if kind == 'outputs' else 'was'} reviewed for {then}, but params name {now}; read the terms of {now}, and write their review with "
                f"model: {used.model!r}, backend: {used.backend}" + ("" if used.revision is None else f", revision: {used.revision}")
            )
    about = [_about(x, used) for x in params.licenses if x.covers == "data"]
    if about and None not in about:
        covered = {str(source) for each in about if each is not None for source in each["sources"]}
        if missing := [source for source in used.sources if source not in covered]:
            yield f"no review of data covers {', '.join(missing)}; read its terms, and add it to sources of the review"


def _about(x: LicenceReview, used: Used) -> dict[str, Any] | None:
    """What an entry is about: what it says, else what the lock says of the very same entry, else None."""
    if x.covers == "data" and x.sources is not None:
        return {"sources": list(x.sources)}
    if x.covers != "data" and x.model is not None and x.backend is not None:
        return {"model": x.model, "revision": x.revision, "backend": x.backend}
    same = {"name": x.name, "covers": x.covers, "terms_sha256": x.terms_sha256, "reviewer": x.reviewer, "reviewed": x.reviewed.isoformat()}
    entry = next((each for each in used.locked if same.items() <= each.items()), None)
    about = None if entry is None else entry.get("of")
    return about if isinstance(about, dict) and about.keys() == used.of(x.covers).keys() else None
