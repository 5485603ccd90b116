"""The audit of the very rows that trained this student; a score on rows that it has seen is no evidence."""

from __future__ import annotations

from redistill.promotion.evidence import Evidence
from redistill.promotion.types import Gate


def audited(evidence: Evidence) -> list[Gate]:
    """No training row holds held-out text, personal data, secrets or a planted row; held where nobody knows what trained the student."""
    audit = evidence.audit
    if audit is None:
        sentence = "the rows that trained this student are not on record, so nobody can say that it has not seen the held-out set"
        return [Gate("audit", "hold", None, 0.0, "rows", sentence)]
    found = {
        "quote held-out text": audit.quotes_heldout,
        "hold personal data": audit.personal_data,
        "hold secrets": audit.secrets,
        "are planted": audit.planted,
    }
    bad = sum(found.values())
    sentence = f"{audit.rows:,} training rows audited against {audit.heldout_rows:,} held-out rows: " + (
        ", ".join(f"{n} {what}" for what, n in found.items() if n)
        if bad
        else "no held-out text, no personal data, no secrets, nothing planted"
    )
    return [Gate("audit", "fail" if bad else "pass", bad, 0.0, "rows", sentence)]
