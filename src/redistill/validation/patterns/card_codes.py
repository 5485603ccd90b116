"""PINs and card security codes: a few digits, or their words, that count only beside the word that says what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import CVV, PIN, Finding
from redistill.validation.patterns.nearby import Span, values_beside
from redistill.validation.patterns.signs import holds_any
from redistill.validation.patterns.spoken_digits import spoken

_PIN_NAMES = re.compile(
    r"\b(?:pins?(?!-?\w*board)|pin-?codes?|pinkode[nr]?|pin-?kods?|pin-?nummers?|p\.\s?i\.\s?n\b\.?|pass[\s-]?codes?|unlock(?:ing)? codes?|lock(?:[\s-]?screen)? codes?|entry codes?|"
    r"door codes?|keypad codes?|alarm codes?|access codes?|secret (?:codes?|numbers?)|personal (?:codes?|identification numbers?)|atm codes?|cash ?point codes?|(?:my|the|his|her) card codes?|"
    r"(?:four|six|4|5|6)[\s-]digits? (?:codes?|numbers?|pins?|one)|memorable number|telephone banking (?:code|number)|geheim(?:zahl|nummer|code)|karten-?pin|code (?:secret|confidentiel|pin)|código (?:pin|secreto)|"
    r"codigo (?:pin|secreto)|clave secreta|codice (?:pin|segreto)|codul pin|kod pin|пин(?:-?код)?|pincode|koodi|geheime code)(?![^\W\d_])|暗証番号|ピン番号|密码是|비밀번호",
    re.IGNORECASE,
)
_SPEAKS_OF_PINS = (
    "pin",
    "p.i",
    "p. i",
    "code",
    "geheim",
    "digit",
    "memorable",
    "telephone banking",
    "secret",
    "código",
    "codigo",
    "clave",
    "codice",
    "kod",
    "koodi",
    "personal id",
    "пин",
    "暗証番号",
    "ピン",
    "密码",
    "비밀번호",
)
_PLACE = r"(?:back|reverse|rear|front|other side|strip|signature (?:strip|panel)|flip side)"
_CODE_NAMES = re.compile(
    r"\b(?:cvv2?|cvc2?|cv2|csc|cid|cvn2?|cvd|cvs|cav2?|ccv|sec(?:urity|\.)? ?(?:code|number|digits?|no|num|nr|pin|value)s?|(?:card )?verification (?:value|code|number|digits|no)s?|card validation (?:value|code)s?|"
    r"signature (?:strip|panel)|(?:code|digits|numbers?|nos?) (?:thats? |that's |which is |printed |written )?(?:on|from|at|off) (?:the |its )?(?:very )?"
    rf"{_PLACE}(?: (?:of|side)(?: (?:it|(?:(?:my|the|this|his|her) )?(?:\w+ )?(?:card|visa|mastercard|amex)))?)?|(?:back|reverse|rear) of (?:the |my |this |his |her |it)?(?:\w+ )?card|"
    r"(?:three|four|3|4)[\s-](?:digits?|figures?|numbers?|numerals) (?:security |secret |cvv |little )?(?:code|number|numbers|digits|value|thing)(?: (?:on|from|at) (?:the )?"
    rf"{_PLACE})?|(?:three|four|3|4)(?: (?:little|small|last))?[\s-](?:digits?|numbers?|figures) (?:on|from|at|off) (?:the |my )?{_PLACE}(?: of (?:my|the|it|her|his)(?: (?:\w+ )?card)?)?|cryptogramme(?: visuel)?|secure code|reverse side(?: number)?|trois chiffres|tres d[ií]gitos|drei ziffern|tre cifre|drie cijfers|três d[ií]gitos|code de sécurité|code de securite|"
    r"code au dos|(?:trois )?chiffres au dos|(?:karten)?prüf(?:nummer|ziffern?|zahl|code)|sicherheits(?:code|nummer)|código de (?:seguridad|segurança|verificación)|codigo de (?:seguridad|seguranca)|codice di (?:sicurezza|controllo)|"
    r"beveiligingscode|säkerhetskod|sikkerhedskode|sikkerhetskode|kod (?:cvv|cvc|zabezpieczający)|код безопасности)(?![^\W\d_])|安全码|セキュリティコード",
    re.IGNORECASE,
)
_WEAK_CODE_NAMES = re.compile(
    rf"\b(?:(?:three|four|3|4)[\s-](?:digits?|numbers?|figures)|(?:on|from|off|at) (?:the |its )?{_PLACE}|card code|(?<!social )security|secure|{_PLACE} (?:says|reads|shows|has)|verso|rückseite|reverso|retro|achterkant)\b",
    re.IGNORECASE,
)
_SPEAKS_OF_CODES = (
    "cvv",
    "cvc",
    "cvn",
    "cvd",
    "cvs",
    "cv2",
    "ccv",
    "csc",
    "cid",
    "cav",
    "sec co",
    "sec.",
    "sec no",
    "sec num",
    "secure code",
    "security",
    "sécur",
    "verification",
    "validation",
    "strip",
    "back",
    "reverse",
    "rear",
    "verso",
    "rückseite",
    "retro",
    "achterkant",
    "flip side",
    "other side",
    "signature",
    "on the front",
    "digit",
    "figure",
    "trois chiffres",
    "tres d",
    "três d",
    "ziffern",
    "tre cifre",
    "cijfers",
    "three number",
    "3 number",
    "four number",
    "4 number",
    "card code",
    "cryptogramme",
    "dos",
    "prüf",
    "sicherheit",
    "segur",
    "sicur",
    "controllo",
    "verificaci",
    "beveiliging",
    "säkerhet",
    "sikkerhe",
    "zabezp",
    "безопасности",
    "安全码",
    "セキュリティ",
)


def _digits(fewest: int, most: int) -> re.Pattern[str]:
    """Digits in one piece, or each apart from the next by the same sign, or in two groups."""
    apart = "|".join(rf"\d(?:{sep}\d){{{fewest - 1},{most - 1}}}" for sep in (" ", "-", r"\.", ",", "/", ", ", " - ", "  ", r"\n"))
    groups = r"|\d\d[ -]\d\d(?:[ -]\d\d)?|\d{3}[ -]\d{3}" if fewest == 4 else ""
    return re.compile(rf"(?<![A-Za-z0-9_])(?:\d{{{fewest},{most}}}{groups}|{apart})(?![A-Za-z0-9_])")


_PIN_DIGITS, _CODE_DIGITS = _digits(4, 6), _digits(3, 4)
# A name may be glued to its value.
_GLUED_PIN = re.compile(r"\bpin(?P<value>\d{4,6})\b", re.IGNORECASE)
_GLUED_CODE = re.compile(r"\b(?:cvv|cvc|csc|cid)(?P<value>\d{3,4})\b", re.IGNORECASE)
# The last four digits of a card are part of many tasks; the three on its back are not.
_LAST_DIGITS = re.compile(r"\blast (?:three|four|3|4)[\s-](?:digits?|numbers?)(?! (?:on|from|at) the)", re.IGNORECASE)
_BEHIND_EXPIRY = re.compile(
    r"(?<=\d{4})[\s,;|/]{1,3}(?:(?:exp(?:iry|ires)?|valid(?: to| until| thru)?)\W{0,3})?(?:0?[1-9]|1[0-2])\s?[/-]\s?(?:20)?\d\d[\s,;|/]{1,3}(?P<value>\d{3,4})(?![\w%€£$]|[.,]\d)",
    re.IGNORECASE,
)
_CARD_BEFORE = re.compile(r"(?:\d[ -]?){13,19}$")


def pins(text: str) -> Iterator[Finding]:
    """Every PIN of a text in normal form: four to six digits."""
    if not holds_any(text.lower(), _SPEAKS_OF_PINS):
        return
    yield from (Finding(PIN, *m.span("value")) for m in _GLUED_PIN.finditer(text))
    names = [m.span() for m in _PIN_NAMES.finditer(text)]
    yield from (Finding(PIN, *span) for span in _values(text, names, _PIN_DIGITS, (4, 6)))


def security_codes(text: str) -> Iterator[Finding]:
    """Every card security code of a text in normal form: three or four digits."""
    for match in _BEHIND_EXPIRY.finditer(text) if "/" in text or "-" in text else ():
        if _CARD_BEFORE.search(text[max(0, match.start() - 40) : match.start()]):
            yield Finding(CVV, *match.span("value"))
    if not holds_any(text.lower(), _SPEAKS_OF_CODES):
        return
    yield from (Finding(CVV, *m.span("value")) for m in _GLUED_CODE.finditer(text))
    last = [m.span() for m in _LAST_DIGITS.finditer(text)]
    for pattern, loose in ((_CODE_NAMES, True), (_WEAK_CODE_NAMES, False)):
        names = [m.span() for m in pattern.finditer(text) if not any(a < m.end() and m.start() < b for a, b in last)]
        yield from (Finding(CVV, *span) for span in _values(text, names, _CODE_DIGITS, (3, 4), loose))


def _values(text: str, names: list[Span], digits: re.Pattern[str], lengths: tuple[int, int], loose: bool = True) -> list[Span]:
    if not names:
        return []
    values = sorted([m.span() for m in digits.finditer(text)] + spoken(text, *lengths))
    return list(values_beside(text, names, values, loose))
