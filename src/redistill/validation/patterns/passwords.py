"""Passwords in plain sentences: ``my password is …``, ``pwd=…``, ``user max / pass …``.

A word behind "password is" may also say what is wrong with it. What looks like no word counts at once; a plain word counts unless it is one of
those that people say about passwords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import Finding

PASSWORD = "password"  # noqa: S105 - a kind, not a secret
_NAME = (
    r"(?:\b\w{0,12}(?:password|passwort|passwd|passphrase|kennwort)s?\b|\bpass[ -]?phrase\b|\bpass ?word\b|\bpwd\b|\bpw\b|\bpass\b|\bmot de passe\b|\bmdp\b|\bcontraseña\b|"
    r"\bcontrasena\b|\bsenha\b|\bwachtwoord\b|\blösenord\b|\bhasło\b|\bparola d'ordine\b|\bmemorable word\b|\blog-?in details\b)"
)
_BETWEEN = (
    r"(?:[\s(]|\b(?:for|to|on|of|my|the|his|her|our|your|this|that|new|old|current|temporary|temp|account|online|banking|app|email|e-mail|wifi|wi-fi|laptop|computer|"
    r"phone|bank|portal|site|website|login|router|network|admin|user|here|now|i|we|use|used|set|chose|have|still|always|which|was changed|changed|from)\b)"
)
_SAYS = r"(?:\b(?:is|was|are|be|ist|war|est|es|é|to|as|equals|remains|reads|lautet)\b|'s\b|:|=|->|=>|-(?=\s))"
_QUOTED = r"(?:\"(?P<q1>[^\"\n]{3,64})\"|'(?P<q2>[^'\n]{3,64})'|`(?P<q3>[^`\n]{3,64})`)"
_SAID = re.compile(
    rf"{_NAME}(?P<between>{_BETWEEN}{{0,14}}?){_SAYS}\s*(?:(?:now|still|always|just|simply|this|is|it|the following|currently|set to|called)\b[\s:=]*){{0,3}}(?:{_QUOTED}|(?P<word>\S{{3,64}}))",
    re.IGNORECASE,
)
_LOOSELY_SAID = re.compile(rf"{_NAME}(?P<between>[^.!?;\n]{{0,36}}?){_SAYS}\s*(?:{_QUOTED}|(?P<word>\S{{5,64}}))", re.IGNORECASE)
_USED_AS = re.compile(rf"(?:{_QUOTED}|(?<!\S)(?P<word>\S{{4,64}}))\s(?:as|for)\s(?:\S{{1,12}}\s){{0,3}}{_NAME}", re.IGNORECASE)
_BARE = re.compile(rf"{_NAME}[\s,(]{{1,2}}(?:{_QUOTED}|(?P<word>\S{{5,64}}))", re.IGNORECASE)
_BEHIND = re.compile(
    rf"(?:{_QUOTED}|(?<!\S)(?P<word>\S{{5,64}}))\s(?:is|was|as)\s(?:\b(?:my|the|his|her|our|their|your|a|new|old|current|wifi|bank|app|email|login)\b\s){{0,3}}{_NAME}",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"\b(?:pass ?phrase)(?:\sis|\swas|'s|:|\s=)\s(?P<phrase>[A-Za-z]{2,}(?:[ -][A-Za-z]{2,}){2,7})(?=[.!?,\n]|$)", re.IGNORECASE
)
_SAID_OF_PHRASES = frozenset(
    re.findall(
        r"\S+",
        r"not working accepted rejected wrong invalid to the a in too on it and i is was expired again my for from by ",
    )
)
_BESIDE_USER = re.compile(
    r"\b(?:log-?\s?in|credentials?|creds|sign-?\s?in|user(?:name)?)\b[\s:=]{1,3}(?:(?:with|is|as|are|details)\b[\s:=]{1,2}){0,2}[\w.@-]{2,40}\s?[/:|]\s?(?P<word>[^\s/]{5,64})",
    re.IGNORECASE,
)
_SIGNS = (
    "pass",
    "pwd",
    "pw",
    "kennwort",
    "mdp",
    "contrase",
    "senha",
    "wachtwoord",
    "lösenord",
    "hasło",
    "parola",
    "memorable",
    "login",
    "log in",
    "log-in",
    "cred",
    "sign in",
    "sign-in",
    "user",
)
_REPLACED = re.compile(r"\[[A-Z]+\]?")
"""What stands in a redacted text instead of a value."""
_ENDS = ".,;:!?)\"'`]}>"
_SAID_OF_PASSWORDS = frozenset(
    re.findall(
        r"\S+",
        r"a about accepted active actually after again all allowed already also always an and another any as asking at back bad based "
        r"because been being blank blocked broken but by cannot cant case changed changing compromised confidential correct corrupt "
        r"correctly cracked created deactivated declined denied different disabled displayed doing done due easy either empty encrypted "
        r"enough even exactly expired expires expiring failing false fine for forgotten from getting going gone good greyed guessed "
        r"hacked hard hashed having hidden how i if impossible in incorrect insecure invalid it its just keeps known leaked letters "
        r"like linked locked long longer lost made making masked meant mine missing must my needed never new no none not nothing now "
        r"obvious of off ok okay old on one only or our out outdated over pasted possible private protected public refused rejected "
        r"related required requested reset resetting resets returned right safe same saved saying secret secure seen sent set shared "
        r"short shown simple so still stolen stored stronger strong stuck such supposed taken temporary that the their them then there "
        r"this through to too true typed unchanged under unknown unsafe until up updated used useless using valid very visible wanted "
        r"was weak well what when where which while who whose why will with without working works wrong yet you your zero reused "
        r"sensitive available complicated complex difficult important recognised recognized unavailable unrecognised accessible "
        r"mandatory optional written protected manager managers reset-link field page link box form screen policy rule rules hint "
        r"change changes recovery request requests this that here question issue problem trouble concern mistake thing story name "
        r"everything something anything nothing username email date part step ",
    )
)


def passwords(text: str) -> Iterator[Finding]:
    """Every password of a text in normal form."""
    lower = text.lower()
    if not any(sign in lower for sign in _SIGNS):
        return
    for phrase in _PHRASE.finditer(text):
        if _SAID_OF_PHRASES.isdisjoint(phrase["phrase"].lower().split()):
            yield Finding(PASSWORD, *phrase.span("phrase"))
    for beside in _BESIDE_USER.finditer(text):
        if _is_password(beside["word"].rstrip(_ENDS), plain_words=False):
            yield Finding(PASSWORD, beside.start("word"), beside.start("word") + len(beside["word"].rstrip(_ENDS)))
    for pattern, plain_words in ((_SAID, True), (_LOOSELY_SAID, False), (_BARE, False), (_BEHIND, True), (_USED_AS, False)):
        at = 0
        while match := pattern.search(text, at):
            at = match.end("between") if "between" in pattern.groupindex else match.start() + 1
            at = max(at, match.start() + 1)
            start, end = _place(match)
            # "pass: 3 of 4 checks" is no password, so after this short word a plain one counts only beside a user name.
            plain = plain_words and (not match.group().lower().startswith("pass:") or "user" in lower or "login" in lower)
            value = text[start:end]
            if not _REPLACED.search(value) and (match["word"] is None or _is_password(value, plain)):
                yield Finding(PASSWORD, start, end)
                at = max(at, end)


def _place(match: re.Match[str]) -> tuple[int, int]:
    group = next(name for name in ("q1", "q2", "q3", "word") if match[name] is not None)
    start, end = match.span(group)
    value = match[group]
    if group == "word":
        start += len(value) - len(value.lstrip("\"'`([{<"))
        # A sign at the end may be the sentence's or the password's: it counts where another sign stands before it.
        end -= len(value) - len(value.rstrip(_ENDS))
    return start, max(start, end)


def _is_password(value: str, plain_words: bool) -> bool:
    if (
        len(value) < 3
        or "](" in value
        or _REPLACED.search(value)
        or re.fullmatch(r"\*+|x+|\.+|-+|\d{1,3}|https?://\S*", value, re.IGNORECASE)
    ):
        return False
    letters, digits = bool(re.search(r"[^\W\d_]", value)), bool(re.search(r"\d", value))
    signs = bool(re.search(r"[^\w\s.,:;'\"()/-]", value)) or bool(re.search(r"\w[_/-]\w", value) and digits)
    inner_capital = bool(re.search(r"[a-z][A-Z]", value))
    if len(value) >= 5 and letters and (digits or signs or inner_capital):
        return not re.fullmatch(r"\d+(?:st|nd|rd|th|am|pm|min|h|x|d|s)|[a-z]+'[a-z]+", value, re.IGNORECASE)
    if not plain_words:
        return value.isdigit() and len(value) >= 6
    if value.isdigit():
        return len(value) >= 4 and not re.fullmatch(r"(?:19|20)\d\d", value)
    return len(value) >= 4 and value.lower() not in _SAID_OF_PASSWORDS and re.fullmatch(r"[^\W\d_]+(?:-[^\W\d_]+)?", value) is not None
