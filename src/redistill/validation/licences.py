"""Licence review: a person has read the terms and recorded what is allowed, with a date.

Without reviewed, unexpired terms that allow the use, there is no teacher call. The digest binds the review to the text that was
read, so changed terms need a new review.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from redistill.errors import ConfigError
from redistill.io.digests import file_digest
from redistill.validation.params import GovernanceParams

COVERED = ("teacher", "outputs", "data")


def review(params: GovernanceParams, today: dt.date, root: Path) -> list[dict[str, Any]]:
    """Check every listed review and return what the lock records of it.

    Raises:
        ConfigError: something is not covered, not allowed, expired, dated in the future, or its text has changed; all problems at once.
    """
    problems = [
        f"no entry in governance.licenses covers the {kind}; add one" for kind in COVERED if kind not in {x.covers for x in params.licenses}
    ]
    for x in params.licenses:
        where = f"governance.licenses {x.name!r} ({x.covers})"
        terms = root / x.terms
        if not x.allowed:
            problems.append(
                f"{where}: not allowed (licence {x.licence}, reviewer {x.reviewer}); read the terms, keep their text in {x.terms}, and set licence, reviewer, "
                "reviewed, expires and allowed"
            )
        if x.expires < today:
            problems.append(f"{where}: the review expired on {x.expires}; read the terms again and set reviewed and expires")
        if x.reviewed > today:
            problems.append(f"{where}: reviewed on {x.reviewed}, which is in the future; correct reviewed")
        if not terms.is_file():
            problems.append(f"{where}: its terms {x.terms} are missing; put the reviewed text there, and keep it with the project")
        elif file_digest(terms) != x.terms_sha256:
            problems.append(
                f"{where}: {x.terms} has digest {file_digest(terms)}, but the review was of {x.terms_sha256}; read the text again and set terms_sha256"
            )
    if problems:
        raise ConfigError("licence review stops the cycle before any teacher call: " + " | ".join(problems))
    return [
        {"name": x.name, "covers": x.covers, "licence": x.licence, "terms_sha256": x.terms_sha256, "reviewer": x.reviewer,
         "reviewed": x.reviewed.isoformat(), "expires": x.expires.isoformat()}
        for x in params.licenses
    ]  # fmt: skip
