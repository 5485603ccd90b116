"""What looks like a password, and what only looks like one: words that people say about passwords, names of products, codes of errors."""

from __future__ import annotations

import re

REPLACED = re.compile(r"\[[A-Z]+\]?")
"""What stands in a redacted text instead of a value."""
ENDS = ".,;:!?)\"'`]}>"
_SAID_OF_PASSWORDS = frozenset(
    re.findall(
        r"\S+",
        r"a about accepted access active actually after again all allowed already also always an and annoying another any apparently as asking at awful back bad based "
        r"because been being best blank blocked bloody both broken but by cannot cant case changed changing compromised confidential correct corrupt "
        r"correctly cracked created cursed deactivated declined denied different difficult disabled displayed doing done due easy either empty encrypted "
        r"enough even exactly exceed expired expires expiring failing fake false far fine first for forgotten from generated getting given going gone good great greyed guessed "
        r"hacked hard hashed having hidden horrible how huge i if impossible in incorrect insecure invalid it its just keeps kept known last leaked less letters "
        r"like linked locked long longer lost made making many masked maybe meant mine missing more much must my myself needed neither never new no none nonsense not nothing now numeric "
        r"obvious of off ok okay old on one only open or our out outdated over part pasted perfect perhaps please possible private probably protected public quite random rather ready refused rejected "
        r"related required requested reset resetting resets returned ridiculous right safe safer same saved saying second secret secure seen sent set shared short "
        r"shown simple simply six so someone still stolen stored strange stronger strong stuck stupid such supposed taken temporary terrible than that the their them then there "
        r"this though through to today tomorrow too true twelve eight ten typed unchanged under unknown unsafe until up updated used useless using usual valid very visible wanted "
        r"was weak well what when where whether which while who whose why will with within without word working works worse wrong yesterday yet you your zero reused "
        r"sensitive available complicated complex important recognised recognized unavailable unrecognised accessible "
        r"mandatory optional written manager managers reset-link field page link box form screen policy rule rules hint "
        r"chosen told meant advised written shown supplied change changes recovery request requests here question issue problem trouble concern mistake thing story name "
        r"everything something anything nothing nowhere everywhere username email date step case-sensitive alphanumeric minimum maximum "
        # After "to" or "as".
        r"login enter unlock work open sign protect avoid prevent continue proceed confirm verify view check finish register activate reach "
        # In other languages.
        r"falsch richtig abgelaufen gesperrt vergessen nicht immer noch ungültig unbekannt korrekt leider jetzt incorrect incorrecte oublié expiré bloqué faux refusé pas toujours perdu "
        r"trop incorrecta incorrecto correcta olvidada caducada bloqueada errónea muy demasiado sbagliata errata scaduta bloccata dimenticata corretta sempre incorreta errada bloqueada "
        r"expirada verkeerd verlopen vergeten geblokkeerd onjuist niet nieuw feil fel forkert ugyldig neplatné nieprawidłowe zablokowane niepoprawne неверный неправильный",
    )
)
# Participles and adverbs are said about passwords; these few words are passwords all the same.
_PARTICIPLE = re.compile(r"\w+(?:ly|ed|ing|able|ible|ised|ized|ful|less|ment|tion)", re.IGNORECASE)
_NAMES_ALL_THE_SAME = frozenset(
    [
        "butterfly",
        "family",
        "emily",
        "lily",
        "kelly",
        "molly",
        "dolly",
        "sally",
        "holly",
        "billy",
        "willy",
        "firefly",
        "dragonfly",
        "italy",
        "darling",
        "spring",
        "sterling",
        "viking",
        "king",
        "ring",
        "wing",
        "seedbed",
        "mohammed",
    ]
)
_UNITS = (
    r"am|pm|a\.m|p\.m|h|hrs?|hours?|mins?|minutes?|days?|d|s|secs?|ms|x|th|st|nd|rd|kg|km|m|gb|mb|kb|ghz|mhz|k|eur|gbp|usd|px|bits?|digits?|characters?|chars?|steps?|factors?|fa|"
    r"mm|cm|weeks?|months?|years?|yrs?|letters?|symbols?|times|ers"
)
_ORDINARY = re.compile(
    rf"[£$€]?\d[\d.,:/-]*[- ]?(?:{_UNITS})|\d{{1,2}}(?:{_UNITS})[-/]\d{{1,2}}(?:{_UNITS})|[A-Z]{{1,8}}[-_/]?\d[\d.-]*|[A-Z]{{2,}}(?:-[A-Z0-9]+)+|[vV]\d[\w.]*|\d{{1,2}}[A-Za-z]{{3,9}}\d{{2,4}}|"
    r"\S+@\S+\.\w+|(?:https?://|www\.)\S*|[\w./-]+\.(?:com|org|net|co\.uk|de|fr|io|example|html?|pdf|php|csv|jsonl?|png|jpe?g|txt|exe|docx?|xlsx?)|[@#]\w+|[a-z]+'[a-z]+|"
    r"(?i:(?:i?os|iphone|ipad|ipados|mac(?:os|book)?|win(?:dows)?|android|galaxy|pixel|chrome|firefox|safari|edge|opera|office|microsoft|outlook|exchange|covid|sha|aes|rsa|md|base|utf|oauth|ipv|wpa|wifi|wi-fi|iso|psd|"
    r"http|html|css|web|log|mp|ps|xbox|windows-?|room|floor|step|page|level|part|q|fy|section|version|error|err|case|ticket|order|ref|inv|form|user|customer|test)-?\d[\w.]{0,6}|1password|keepass\w*|bitwarden|b2b|b2c|p2p|e2e|2fa|mfa)",
)


def is_password(value: str, plain_words: bool) -> bool:
    """Whether a word that stands for a password is one; ``plain_words``: words without a digit or a sign count too."""
    if (
        len(value) < 3
        or "](" in value
        or REPLACED.search(value)
        or re.fullmatch(r"\*+|x+|\.+|-+|\d{1,3}|https?://\S*", value, re.IGNORECASE)
    ):
        return False
    letters, digits = bool(re.search(r"[^\W\d_]", value)), bool(re.search(r"\d", value))
    signs = bool(re.search(r"[^\w\s.,:;'\"()/-]", value)) or bool(re.search(r"\w[_/-]\w", value) and digits)
    inner_capital = bool(re.search(r"[a-z][A-Z]", value))
    if len(value) >= 5 and letters and (digits or signs or inner_capital):
        return not re.fullmatch(r"\d+(?:st|nd|rd|th|am|pm|min|h|x|d|s)|[a-z]+'[a-z]+|1password", value, re.IGNORECASE)
    if not plain_words:
        return value.isdigit() and len(value) >= 6
    if value.isdigit():
        return len(value) >= 4 and not re.fullmatch(r"(?:19|20)\d\d", value)
    return len(value) >= 4 and re.fullmatch(r"[^\W\d_]+(?:-[^\W\d_]+)*", value) is not None and not _is_said_of_passwords(value.lower())


def is_unlike_words(value: str) -> bool:
    """Whether a word looks like a password wherever it stands: letters with digits or signs, and no unit, date, address, product or code."""
    if len(value) < 5 or REPLACED.search(value) or re.search(r"[^\W\d_]", value) is None:
        return False
    return re.search(r"\d|\w[!$%^#@~]\w|\w[!$%^#@~]$", value) is not None and _ORDINARY.fullmatch(value) is None


def _is_said_of_passwords(word: str) -> bool:
    if word in _SAID_OF_PASSWORDS or ("-" in word and not _SAID_OF_PASSWORDS.isdisjoint(word.split("-"))):
        return True
    return word not in _NAMES_ALL_THE_SAME and _PARTICIPLE.fullmatch(word) is not None
