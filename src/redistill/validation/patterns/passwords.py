"""Passwords in sentences: ``my password is …``, ``pwd=…``, ``user max / pass …``, ``… is what I use as password``.

A word behind "password is" may also say what is wrong with it. What looks like no word counts at once, also at a distance; a plain word counts unless
it is one of those that people say about passwords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import Finding
from redistill.validation.patterns.nearby import values_beside
from redistill.validation.patterns.password_shapes import ENDS, REPLACED, is_password, is_unlike_words
from redistill.validation.patterns.signs import holds_any

PASSWORD = "password"  # noqa: S105 - a kind, not a secret
_STRONG_NAME = (
    r"(?:\b\w{0,12}(?:password|passwort|passwd|passwrd|pasword|passwrod|passphrase|kennwort)s?\b|\bpass[ -]?phrases?\b|\bpass[ -]words?\b|\bpass-?codes?\b|\bpwds?\b|\bp/w\b|\bpsw?d\b|\bmots? de passe\b|\bmdp\b|\bcontraseñas?\b|"
    r"\bcontrasenas?\b|\bclave(?: de acceso)?\b|\bsenhas?\b|\bpalavra-passe\b|\bwachtwoord(?:en)?\b|\blösenord(?:et)?\b|\bpassord(?:et)?\b|\badgangskoden?\b|\bkodeord(?:et)?\b|\bsalasanani?\b|\bhasło\b|\bheslo\b|\bjelszó\b|\bjelszavam\b|"
    r"\bşifrem?\b|\bparola(?: d'ordine)?\b|\bпарол[ья]\b|\bмой пароль\b|\bmemorable word\b|\bsecret word\b|\bsecurity answer\b|\banswer to (?:my|the) (?:security|secret) question\b|\blog-?in details\b|密码|密碼|パスワード|비밀번호|암호)"
)
_WEAK_NAME = r"(?:\bpw\b|\bpass\b|\bcredentials?\b|\bcreds\b)"
_NAME = rf"(?:{_STRONG_NAME}|\bpw\b|\bpass\b)"
_NAMES, _WEAK_NAMES = re.compile(_STRONG_NAME, re.IGNORECASE), re.compile(_WEAK_NAME, re.IGNORECASE)
_BETWEEN = (
    r"(?:[\s(]|\([^()\n]{1,30}\)|\b(?:for|to|on|of|my|the|his|her|our|your|this|that|new|old|current|temporary|temp|account|online|banking|app|email|e-mail|wifi|wi-fi|laptop|computer|"
    r"phone|bank|portal|site|website|login|router|network|admin|user|here|now|i|we|use|used|set|chose|have|still|always|which|was changed|changed|from)\b)"
)
_SAYS = r"(?:\b(?:is|was|are|be|used to be|has been|ist|war|est|es|era|é|è|är|er|jest|to|as|equals|remains|reads|says|lautet|heißt)\b|'s\b|:|=|->|=>|>|→|-(?=\s)|是|は|为)"
_QUOTED = r"(?:\"(?P<q1>[^\"\n]{3,64})\"|'(?P<q2>[^'\n]{3,64})'|`(?P<q3>[^`\n]{3,64})`)"
_SAID = re.compile(
    rf"{_NAME}(?P<between>{_BETWEEN}{{0,14}}?)(?P<says>{_SAYS})[\s:=]*(?:(?:now|still|always|just|simply|this|is|it|the following|currently|set to|called)\b[\s:=]*){{0,3}}(?:{_QUOTED}|(?P<word>\S{{3,64}}))",
    re.IGNORECASE,
)
_USED_AS = re.compile(rf"(?:{_QUOTED}|(?<!\S)(?P<word>\S{{4,64}}))\s(?:as|for|is|was|into)\s(?:\S{{1,12}}\s){{0,3}}{_NAME}", re.IGNORECASE)
_BARE = re.compile(rf"{_NAME}[\s,(?.]{{1,3}}(?:{_QUOTED}|(?P<word>\S{{5,64}}))", re.IGNORECASE)
_BEHIND = re.compile(
    rf"(?:{_QUOTED}|(?<!\S)(?P<word>\S{{5,64}}))\s(?:is|was|as)\s(?:\b(?:my|the|his|her|our|their|your|a|new|old|current|wifi|bank|app|email|login)\b\s){{0,3}}{_NAME}",
    re.IGNORECASE,
)
_PHRASE = re.compile(
    r"\b(?:pass ?phrase)(?:\sis|\swas|'s|:|\s=)\s(?P<phrase>[A-Za-z]{2,}(?:[ -][A-Za-z]{2,}){2,7})(?=[.!?,\n]|$)", re.IGNORECASE
)
_SAID_OF_PHRASES = frozenset(
    [
        "not",
        "working",
        "accepted",
        "rejected",
        "wrong",
        "invalid",
        "to",
        "the",
        "a",
        "in",
        "too",
        "on",
        "it",
        "and",
        "i",
        "is",
        "was",
        "expired",
        "again",
        "my",
        "for",
        "from",
        "by",
    ]
)
_BESIDE_USER = re.compile(
    r"\b(?:log-?\s?in|log(?:ged|ging)? (?:in|on)|credentials?|creds|sign-?\s?in|user(?:\s?name|\s?id)?)\b[\s:=]{1,3}(?:(?:with|is|as|are|details|using|name)\b[\s:=]{1,2}){0,2}[\w.@-]{2,40}"
    r"(?:\s?[/:|,;]|\s-|\s(?:with|and|using)(?=\s)|(?=\n))\s?(?P<word>[^\s/]{5,64})",
    re.IGNORECASE,
)
_INITIALS = re.compile(r"\bu(?:ser|n|id)?\s?[:=]\s?\S{2,40}[\s,;/|]{1,3}p(?:ass|w|wd)?\s?[:=]\s?(?P<word>\S{4,64})", re.IGNORECASE)
_BOTH = re.compile(
    rf"\buser\s?(?:name|id)?\W{{1,3}}(?:(?:is|=)\s)?(?!and\b|or\b)[\w.@-]{{2,40}}[\s,;/|]{{1,3}}(?:(?:and|with)\s)?(?:my\s|the\s)?{_NAME}\W{{1,3}}(?P<word>\S{{4,64}})|"
    r"\b(?:memorable|secret) word[\s:]{1,2}(?P<memorable>(?-i:[A-Z])\w{3,40})",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s\u3000-\u9fff\uac00-\ud7af]{5,64}")
_IS_SOMEONE = re.compile(
    r"\b(?:user(?:\s?name|\s?id)?s?|login|log in|id|e-?mail|account|customer|code|number|ref)\b[\s:=(\"']*(?:(?:is|was|with|as|name|no|number)\b[\s:=(\"']*){0,2}$",
    re.IGNORECASE,
)
_CHANGES = re.compile(r"\b(?:chang|set|reset|updat|switch|amend|made|make|put|renam|turn)\w*", re.IGNORECASE)
_SIGNS = (
    "pas",
    "pwd",
    "pw",
    "psd",
    "p/w",
    "psw",
    "kennwort",
    "mdp",
    "contrase",
    "clave",
    "senha",
    "palavra",
    "wachtwoord",
    "lösenord",
    "adgangskode",
    "kodeord",
    "salasana",
    "hasło",
    "heslo",
    "jelsz",
    "şifre",
    "parola",
    "парол",
    "memorable",
    "secret",
    "security",
    "log",
    "cred",
    "sign in",
    "sign-in",
    "user",
    "密码",
    "密碼",
    "パスワード",
    "비밀번호",
    "암호",
)


def passwords(text: str) -> Iterator[Finding]:
    """Every password of a text in normal form."""
    lower = text.lower()
    if not holds_any(lower, _SIGNS):
        return
    for phrase in _PHRASE.finditer(text):
        if _SAID_OF_PHRASES.isdisjoint(phrase["phrase"].lower().split()):
            yield Finding(PASSWORD, *phrase.span("phrase"))
    yield from _beside_users(text)
    if _NAMES.search(text) or _WEAK_NAMES.search(text):
        yield from _introduced(text, lower)
        yield from _at_a_distance(text)


def _beside_users(text: str) -> Iterator[Finding]:
    for pattern in (_BESIDE_USER, _INITIALS):
        for match in pattern.finditer(text):
            word = match["word"].rstrip(ENDS)
            strict = pattern is _BESIDE_USER
            if is_password(word, plain_words=not strict) and (not strict or word.isdigit() or is_unlike_words(word)):
                yield Finding(PASSWORD, match.start("word"), match.start("word") + len(word))

    for match in _BOTH.finditer(text):
        group = "word" if match["word"] else "memorable"
        word = match[group].rstrip(ENDS)
        if is_password(word, plain_words=True):
            yield Finding(PASSWORD, match.start(group), match.start(group) + len(word))


def _introduced(text: str, lower: str) -> Iterator[Finding]:
    """What stands directly beside the name or behind a word such as "is"."""
    for pattern, plain_words in ((_SAID, True), (_BARE, False), (_BEHIND, True), (_USED_AS, False)):
        at = 0
        while match := pattern.search(text, at):
            at = match.end("between") if "between" in pattern.groupindex else match.start() + 1
            at = max(at, match.start() + 1)
            start, end = _place(match)
            value = text[start:end]
            plain = plain_words and _may_be_plain(text, lower, match)
            if not REPLACED.search(value) and (match["word"] is None or is_password(value, plain)):
                yield Finding(PASSWORD, start, end)
                at = max(at, end)


def _may_be_plain(text: str, lower: str, match: re.Match[str]) -> bool:
    # "pass: 3 of 4 checks" is no password, so after this short word a plain one counts only beside a user name.
    if match.group().lower().startswith("pass:") and not ("user" in lower or "login" in lower):
        return False
    # "I need the password to access it" says what for; "I changed the password to sunshine" says which.
    says = match.groupdict().get("says") or ""
    return says.lower() not in ("to", "as") or _CHANGES.search(text[max(0, match.start() - 30) : match.start("says")]) is not None


def _at_a_distance(text: str) -> Iterator[Finding]:
    """What looks like a password, with a few words between it and the name."""
    values = []
    for match in _WORD.finditer(text):
        word = match.group()
        start = match.start() + len(word) - len(word.lstrip("\"'`([{<:="))
        end = match.end() - (len(word) - len(word.rstrip(ENDS)))
        if end - start >= 5 and is_unlike_words(text[start:end]) and not _IS_SOMEONE.search(text[max(0, start - 28) : start]):
            values.append((start, end))
    if values:
        for pattern, loose in ((_NAMES, True), (_WEAK_NAMES, False)):
            names = [m.span() for m in pattern.finditer(text) if not any(a < m.end() and m.start() < b for a, b in values)]
            yield from (Finding(PASSWORD, *span) for span in values_beside(text, names, values, loose))


def _place(match: re.Match[str]) -> tuple[int, int]:
    group = next(name for name in ("q1", "q2", "q3", "word") if match[name] is not None)
    start, end = match.span(group)
    value = match[group]
    if group == "word":
        start += len(value) - len(value.lstrip("\"'`([{<"))
        # A sign at the end may be the sentence's or the password's: it counts where another sign stands before it.
        end -= len(value) - len(value.rstrip(ENDS))
    return start, max(start, end)
