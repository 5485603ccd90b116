"""Audit of the rows that trained a student, with the same filters as intake and validation.

Intake and validation judge rows when they enter a cycle. After that files and thresholds can change, and versions can come from
other projects. So the rows that were really used for training are judged again before a promotion, against today's held-out rows.
"""

from __future__ import annotations

from collections.abc import Sequence

from redistill.data.normal_form import normalised
from redistill.data.types import Prompt
from redistill.io.digests import canonical_digest
from redistill.promotion.types import Audit
from redistill.validation.filters import personal_data, secrets
from redistill.validation.filters.near_duplicate import NearDuplicates
from redistill.validation.filters.quoting import QuoteIndex


def audit(rows: Sequence[tuple[Prompt, str]], heldout: Sequence[Prompt], near_duplicate: float, quote_words: int) -> Audit:
    """Judge (prompt, completion) rows. ``near_duplicate`` is a Jaccard index of character 5-grams, as at intake.

    A row quotes the held-out set if its prompt is a held-out prompt or a near-copy, or if its completion quotes held-out text that is not in its prompt.
    """
    ids, quotes = {p.id for p in heldout}, QuoteIndex([p.text for p in heldout], quote_words)
    index = NearDuplicates([normalised(p.text) for p in (*heldout, *(p for p, _ in rows))], near_duplicate)
    for number in range(len(heldout)):
        index.add(number)

    def seen(number: int, prompt: Prompt, completion: str) -> bool:
        return prompt.id in ids or index.match(len(heldout) + number) is not None or quotes.match(completion, prompt.text) is not None

    return Audit(
        rows=len(rows),
        heldout_rows=len(heldout),
        quotes_heldout=sum(seen(n, p, c) for n, (p, c) in enumerate(rows)),
        personal_data=sum(bool(personal_data.find(f"{p.text}\n{c}")) for p, c in rows),
        secrets=sum(bool(secrets.find(f"{p.text}\n{c}")) for p, c in rows),
        planted=sum(p.planted is not None for p, _ in rows),
        rows_digest=canonical_digest(sorted([p.id, c] for p, c in rows)),
    )
