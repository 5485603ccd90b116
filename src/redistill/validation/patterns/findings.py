"""What a search finds in a text: its kind, and the characters that hold it."""

from __future__ import annotations

from dataclasses import dataclass

CARD, EMAIL, IBAN, PHONE = "payment card", "e-mail address", "IBAN", "phone number"
ACCOUNT, SSN, NINO, PASSPORT = "bank account", "social security number", "national insurance number", "passport number"
IP, PIN, CVV, ADDRESS = "IP address", "PIN", "card security code", "postal address"

TOKENS = {
    CARD: "[CARD]",
    EMAIL: "[EMAIL]",
    IBAN: "[IBAN]",
    PHONE: "[PHONE]",
    ACCOUNT: "[ACCOUNT]",
    SSN: "[SSN]",
    NINO: "[NINO]",
    PASSPORT: "[PASSPORT]",
    IP: "[IP]",
    PIN: "[PIN]",
    CVV: "[CVV]",
    ADDRESS: "[ADDRESS]",
}
"""What stands in a redacted text instead of each kind; a secret of any kind is ``[SECRET]``."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Characters ``start`` to ``end`` of a text hold something of this kind."""

    kind: str
    start: int
    end: int
