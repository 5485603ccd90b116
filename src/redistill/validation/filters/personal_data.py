"""Does a text hold personal data: numbers of cards, accounts, phones and papers, addresses of people and machines, PINs?

The teacher may be an external API, so such rows are dropped before any call. Each kind has its own file in ``validation/patterns``; numbers are proved by
their check digits where there are any, and the others by their layout or the words beside them. Names are not searched, because that needs a
language model. Amounts, dates and the last four digits of a card are part of many tasks and must pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from redistill.data.normal_form import normal_form, normalised
from redistill.validation.patterns.bank_accounts import accounts, ibans
from redistill.validation.patterns.card_codes import pins, security_codes
from redistill.validation.patterns.cards import cards, spoken_cards
from redistill.validation.patterns.email_addresses import emails
from redistill.validation.patterns.findings import TOKENS, Finding
from redistill.validation.patterns.identity_numbers import (
    national_insurance_numbers,
    passport_numbers,
    social_security_numbers,
    spoken_social_security_numbers,
)
from redistill.validation.patterns.network_addresses import ip_addresses
from redistill.validation.patterns.phone_numbers import phones
from redistill.validation.patterns.postal_addresses import addresses
from redistill.validation.types import Candidate, Drop, Keep

_WITH_DIGITS: tuple[Callable[[str], Iterator[Finding]], ...] = (
    ibans,
    cards,
    social_security_numbers,
    national_insurance_numbers,
    ip_addresses,
    passport_numbers,
    accounts,
)
"""The surer kinds come first: an IBAN holds digits that pass as a card or a phone number."""
_TOKEN = re.compile(r"\[[A-Z]+\]?")
_DIGIT = re.compile(r"\d")


def find(text: str) -> list[Finding]:
    """Everything personal in a text, in order and without overlap."""
    plain = normalised(text)
    taken: list[Finding] = []
    for findings in _searches(plain):
        for finding in findings:
            # The surer kind was there first; what a later one sees besides belongs to the same value.
            joined = [f for f in taken if f.start < finding.end and finding.start < f.end]
            start, end = min([finding.start, *(f.start for f in joined)]), max([finding.end, *(f.end for f in joined)])
            taken = [f for f in taken if f not in joined] + [Finding(joined[0].kind if joined else finding.kind, start, end)]
    return in_original(text, plain, sorted(taken, key=lambda f: f.start))


def in_original(text: str, plain: str, findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the normal form of a text, at their places in the text itself."""
    listed = list(findings)
    if plain == text or not listed:
        return listed
    form = normal_form(text)
    return [Finding(f.kind, *form.span(f.start, f.end)) for f in listed]


def judge(candidate: Candidate) -> Keep | Drop:
    findings = find(candidate.text)
    return Drop("personal_data", findings[0].kind) if findings else Keep()


def redact(text: str, findings: Iterable[Finding] | None = None) -> str:
    """The text with each finding replaced by its kind in brackets; without ``findings``, all personal data and secrets.

    Every other occurrence of a found value is replaced too, for example a card number that is joined to letters.
    """
    if findings is not None:
        return _replaced(text, findings)
    from redistill.validation.filters import secrets

    # What was glued to a finding, and no word of its own, may be one once the finding is gone.
    while found := [f for f in (*secrets.find(text), *find(text)) if _is_left(text[f.start : f.end])]:
        text = _replaced(text, found)
    return text


def _is_left(value: str) -> bool:
    """Whether a finding holds more than what already stands instead of another; without this check the replacing might not end."""
    return re.search(r"\w", _TOKEN.sub("", value)) is not None


def _searches(plain: str) -> Iterator[Iterator[Finding]]:
    yield emails(plain)
    if _DIGIT.search(plain):
        yield from (search(plain) for search in _WITH_DIGITS)
    yield addresses(plain)
    yield phones(plain)
    # Their digits may be words.
    yield spoken_cards(plain)
    yield spoken_social_security_numbers(plain)
    yield pins(plain)
    yield security_codes(plain)


def _replaced(text: str, findings: Iterable[Finding]) -> str:
    spans = {(f.start, f.end, TOKENS.get(f.kind, "[SECRET]")) for f in findings}
    for value, token in {(text[start:end], token) for start, end, token in spans if end - start >= 6}:
        spans |= {(m.start(), m.end(), token) for m in re.finditer(re.escape(value), text)}
    parts, done = [], 0
    for start, end, token in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if start >= done:
            parts += [text[done:start], token]
        done = max(done, end)
    return "".join(parts) + text[done:]
