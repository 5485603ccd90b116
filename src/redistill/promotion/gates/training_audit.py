"""The gate ``audit``, on the rows that trained this student: a score on rows that it has seen is not evidence."""

from __future__ import annotations

from redistill.promotion.evidence import Evidence
from redistill.promotion.types import Gate


def audited(evidence: Evidence) -> list[Gate]:
    """No training row contains held-out text, personal data or secrets, or is planted; a hold if the training rows are unknown."""
    audit = evidence.audit
    if audit is None:
        sentence = (
            "the rows that trained this student are unknown, so it may have seen the held-out set; promote a version that a cycle trained"
        )
        return [Gate("audit", "hold", None, 0.0, "rows", sentence)]
    found = {
        "quote held-out text": audit.quotes_heldout,
        "contain personal data": audit.personal_data,
        "contain secrets": audit.secrets,
        "are planted": audit.planted,
    }
    bad = sum(found.values())
    sentence = f"{audit.rows:,} training rows audited against {audit.heldout_rows:,} held-out rows: " + (
        ", ".join(f"{n} {what}" for what, n in found.items() if n)
        if bad
        else "no held-out text, no personal data, no secrets, nothing planted"
    )
    return [Gate("audit", "fail" if bad else "pass", bad, 0.0, "rows", sentence)]
