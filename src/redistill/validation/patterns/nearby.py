"""Values that count because a word near them says what they are: ``my PIN is 4821``, ``4821, that's my PIN``.

A value is read with the words between it and the nearest name, in either order. It does not count if a nearer word says that it is something else: an
amount, an order number, a year. Every step looks at a few characters of the text, so the time grows with the length of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence

Span = tuple[int, int]
_AFTER, _AFTER_CLOSE, _BEFORE, _LEFT, _RIGHT = 75, 30, 48, 44, 28
"""How many characters may stand between a name and the value behind it, between a value and the name behind it; how much is read on both sides."""
_DETERMINERS = (
    r"(?:\b(?:my|the|his|her|our|their|your|a|an|both|this|that|new|old|current|first|second|right|correct|wrong|temporary|default|usual|same|actual|real|card|"
    r"debit|credit|bank|banking|online|app|phone|mobile|sim|uk|us|british|valid|full|whole|login|wifi|personal|wife's|husband's|son's|daughter's|mother's|father's|mum's|mom's|dad's|mein|meine|mon|ma|mi|il|la|le|el|"
    r"de|min|mijn)\b\s?)"
)
_SAYS_WORDS = (
    r"is|was|were|are|be|been|to|as|equals|reads|says|said|shows|remains|stays|being|becomes|became|used|use|uses|using|typed|type|typing|types|entered|enter|entering|"
    r"tried|try|trying|put|putting|chose|chosen|choose|picked|set|with|like|namely|called|gave|give|given|ist|war|lautet|heißt|est|c'est|es|era|é|è|jest|är|er|to jest|это"
)
_SAYS = re.compile(rf"\b(?:{_SAYS_WORDS})\b|'s\b|[:=>→(\[\"'»]|[-](?=\s)|[是は為为]", re.IGNORECASE)
_SAYS_AT_END = re.compile(
    rf"(?:(?:\b(?:{_SAYS_WORDS})|'s|[是は為为])(?:\s+(?:still|now|always|just|simply|it|this|these|not|only|either|literally|currently|apparently|the following|number|no|code))?|[:=>→(\[\"'»*`-]|\.{{2,}})[\s\"'(\[*`«:=]*$",
    re.IGNORECASE,
)
_TIGHT = re.compile(
    r"(?:[\s:=#'\"()*,>→/|.\[\]{}«»<`【】〔〕_?!-]|\b(?:no|nr|nos|num|number|numbers|numero|número|numéro|nummer|code|codes|my|the|as)\b|n[°ºo]\.?)*",
    re.IGNORECASE,
)
_OTHER_WORDS = (
    r"orders?|order no|bestell\w*|commande|pedido|refs?|references?|amounts?|balance|limit|overdraft|tickets?|case|invoice|parcel|tracking|customer (?:no|number|id)|client (?:no|number|id)|booking|branch|postcode|zip|year|"
    r"ending|ends|ended|last four|last 4|expir\w+|exp|valid|loan|mortgage|meter|terminal|error|fault|otp|fee|fees|price|total|salary|transfers?|payments?|withdrawals?|purchases?|deposits?|"
    r"statements?|policy|claim|serial|models?|version|room|flat|house|street|apartment|born|birth|dob|cash(?! ?(?:machine|point))|score|flight|seat|reservation|worth|sum|transaction|rent|bills?|"
    r"complaint|query|incident|chapter|section|page|sort code|extension|ext|steps?|queue|membership"
)
_OTHER = re.compile(rf"\b(?:{_OTHER_WORDS})\b", re.IGNORECASE)
_HOLDER = re.compile(
    r"\b(?:cards?|accounts?|debit|credit|visa|mastercard|amex|phones?|telephone|mobile|iphone|bank|atm|sim|device|user|profile)\b",
    re.IGNORECASE,
)
_COMPLEMENT = re.compile(r"\b(?:for|of|on|to|with|from|in|by|at)\s(?:[\w']{1,14}\s){0,3}$", re.IGNORECASE)
_OTHER_LEFT = re.compile(
    r"(?:[£$€¥₹]|\b(?:gbp|eur|usd|chf|inr|marked|stamped|in|since|until|till|by|at|around|about|approximately|roughly|circa|before|after|during|for|over|under|than|nearly|almost|every|another|within|"
    r"(?:paid|pay|paying|costs?|charged?|took|(?<!nt )(?<!n't )(?<!not )take|taken|takes|withdrew|withdraw|withdrawn|withdrawing|spent|spend|sent|send|transferred|transfer|owed?|earn|won|lost|get|received|receive|deposited|refunded?|moved|dispense[ds]?|billed)"
    r"(?:\s(?:me|us|him|her|them|out|over|back|a|the|my|another|only|just))?|page|room|floor|route|bus|train|error|fault|status|version|model|ios|android|windows|chrome|chapter|section|up to|worth|ending|ends|ending in|ends in|"
    r"ending with|ending on|last|branch|terminal|store|shop|shelf|aisle|form|ext|extension|gate|platform|lane|seat|line|step|size|series|type|age|aged|jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec|january|february|march|"
    r"april|august|september|october|november|december)\b)[\s:#.]*$",
    re.IGNORECASE,
)
_UNIT_RIGHT = re.compile(
    r"(?:[%€£$¥₹°]|\s?(?:times|x|days?|weeks?|months?|years?|yrs|hours?|hrs?|h|minutes?|mins?|seconds?|secs?|ms|attempts?|tries|pounds?|quid|euros?|eur|gbp|usd|dollars?|bucks|cents?|pence|yen|kr|chf|zł|pln|inr|rupees|people|"
    r"customers|users|persons|of|points|miles|km|metres|meters|kg|pm|am|a\.m|p\.m|o'clock|percent|per|bytes|digits?|characters?|chars|letters|words|km/h|each|an?\s(?:day|week|month|year)|more|others?)\b|\s(?:was|were|has been|have been|got)\s(?:taken|withdrawn|charged|paid|spent|stolen|debited|deducted|refunded)\b)",
    re.IGNORECASE,
)
_PART_LEFT = re.compile(r"(?:(?<![A-Za-z\d])\d+[./:,-]|(?<![A-Za-z\d.,:/-])\d+ |[A-Za-z\d][-./])$")
_PART_RIGHT = re.compile(r"[.,:/-]\d|-?[A-Za-z_]| \d{3,}| \d\d(?!\w)")
_PLURAL_RIGHT = re.compile(
    r"\s(?!(?:is|was|does|works|as|has|fails|keeps|gets|always|this|its|says|stops|shows|seems|comes|thus|sometimes|pls|thanks|us|vs|yes|isnt|wasnt|doesnt|works)\b)[a-z]{3,}s\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.!?;](?=\s)|\n\s*\n")
_SAID_AGAIN = re.compile(
    r"\s*(?:(?:no,? |yes,? |sorry,? |well,? )?(?:it|its|that|this|mine|(?:the|my) (?:\w+ ){0,2}(?:one|code|number|digits|ones)|new one|old one|code|number|the code|the number|the digits|digits|i (?:\w+ ){0,2}\w+)\b.*|\W*)",
    re.IGNORECASE,
)
_YEAR = re.compile(r"(?:19|20)\d\d|\d{2,3}[ -]\d{2,3}|\d{1,2}[-. ]\d{1,2}[-. ]\d{2,4}|\d{4}-\d\d")
_DIRECTLY = re.compile(r"\W*(?:(?:no|number|num|nr|id|is|was|in|with|of|code)\b\W*){0,3}", re.IGNORECASE)
_BINDS = re.compile(
    r"\s?[\"')\]»*`]*\s?(?:[,=(<:/|\[\"-]{1,2}\s?)?(?:(?:it's|it is|that's|thats|that is|this is|which is|was|is|are|as|being|for|into|to|used as|used for|when asked for|when (?:it|they) asks? for|at the prompt for|ist|est|c'est|es|era|é|è|jest|är|er|это|是|は)\s?)?(?:(?:still|really|also|actually|now|always|basically|probably|maybe)\s)?"
    rf"(?:not\s)?{_DETERMINERS}{{0,5}}(?:[\"'(\[*]\s?)?",
    re.IGNORECASE,
)
_ENTERS = re.compile(
    r"\b(?:chang\w+|typ(?:e|es|ed|ing)|enter(?:s|ed|ing)?|tr(?:y|ies|ied|ying)|us(?:e|es|ed|ing)|put(?:s|ting)?|key(?:s|ed|ing)?|press(?:es|ed|ing)?|dial\w*|punch\w*|gave|give|giving|told|tell|accept\w*|take|wrote|write|"
    r"written|remember\w*|think|chose|chosen|choose|set|pick(?:ed)?|know|knows|knew|log\w*|it's|its|it is|shows?|says?|reads?|see|saw|has|have)\b",
    re.IGNORECASE,
)
_BOUND_LATER = re.compile(rf"(?:\b(?:is|was|as|for|it's|its)|'s|\bthats)\s{_DETERMINERS}{{0,5}}$", re.IGNORECASE)
_GOES_ON = re.compile(
    r"\s?[\"')\]»*`]*(?:\s?[,(:=/|<\[-]|\s(?:but|and|or|is|was|are|doesn't|doesnt|didn't|didnt|does|did|isn't|isnt|wasn't|wasnt|won't|wont|which|that|as|for|it|on|to|at|when|however|still|into|in|with|because|so|if|every|again|twice|where|not|works?|worked|fails|failed|here|instead|even|although|though|unless|until|while|from|since|three|four|five|several|many|both)\b|\s?$)",
    re.IGNORECASE,
)


def values_beside(text: str, names: Sequence[Span], values: Sequence[Span], loose: bool = True) -> Iterator[Span]:
    """The values that a name stands for; both are given in their order in the text.

    Not ``loose``: only where nothing but a word such as "is" stands between, for names that are said of other things too.
    """
    begins, ends = [start for start, _ in names], [end for _, end in names]
    after = _AFTER if loose else _AFTER_CLOSE
    for start, end in values:
        before, behind = bisect_right(ends, start) - 1, bisect_left(begins, end)
        is_near = before >= 0 and start - ends[before] <= after
        if (is_near and _follows(text, ends[before], start, end, loose)) or (
            behind < len(begins) and begins[behind] - end <= _BEFORE and _precedes(text, start, end, begins[behind], loose)
        ):
            yield start, end


def _follows(text: str, name_end: int, start: int, end: int, loose: bool) -> bool:
    """Whether the value is what a name before it stands for."""
    gap, right = text[name_end:start], text[end : end + _RIGHT]
    if _UNIT_RIGHT.match(right) or re.match(r"[.,:/-]\d", right):
        return False
    if _TIGHT.fullmatch(gap):
        return True
    says = _SAYS_AT_END.search(gap[-32:]) is not None
    if _OTHER_LEFT.search(gap[-32:]) or not (says or (loose and _may_stand_alone(text, start, end))):
        return False
    if not _goes_on(gap, says, loose):
        return False
    return not (_names_other(gap, says) or _names_holder(gap, says or end - start == 3))


def _goes_on(gap: str, says: bool, loose: bool) -> bool:
    """Whether the last sentence between name and value still speaks of the name."""
    first, *others = _SENTENCE.split(gap)
    if not others:
        return True
    # "PIN. 4821" is a PIN; "No PIN came for it. 4821" is not.
    bare = _TIGHT.fullmatch(others[-1]) is not None
    return loose and (says or (bare and _TIGHT.fullmatch(first) is not None)) and _SAID_AGAIN.fullmatch(others[-1]) is not None


def _precedes(text: str, start: int, end: int, name_start: int, loose: bool) -> bool:
    """Whether the value is what a name behind it stands for."""
    gap = text[end:name_start]
    left = _SENTENCE.split(text[max(0, start - _LEFT) : start])[-1]
    if _UNIT_RIGHT.match(gap) or _OTHER_LEFT.search(left) or _PART_LEFT.search(left) or _PART_RIGHT.match(gap):
        return False
    if _BINDS.fullmatch(gap) and re.search(r"[\w,=(:-]", gap):
        return not (_said_of(_OTHER, left) or _said_of(_HOLDER, left))
    if not (left.strip() == "" or _ENTERS.search(left) or _BOUND_LATER.search(gap)):
        return False
    if not (_GOES_ON.match(gap) and (loose or gap.strip() == "")) or _SENTENCE.search(gap) or not _may_stand_alone(text, start, end):
        return False
    holder = _HOLDER.search(gap)
    return not (_OTHER.search(left) or _OTHER.search(gap) or _said_of(_HOLDER, left)) and (
        holder is None or _COMPLEMENT.search(gap[: holder.start()]) is not None
    )


def _may_stand_alone(text: str, start: int, end: int) -> bool:
    """Whether the value needs no word such as "is" before it: years, parts of longer numbers and counted things do."""
    left, right = text[max(0, start - 14) : start], text[end : end + _RIGHT]
    value = text[start:end]
    return not (_YEAR.fullmatch(value) or _PART_LEFT.search(left) or _PART_RIGHT.match(right) or _PLURAL_RIGHT.match(right))


def _said_of(pattern: re.Pattern[str], left: str) -> bool:
    """Whether one of these words stands directly before the value."""
    last = _last(pattern, left)
    return last is not None and _DIRECTLY.fullmatch(left, last.end()) is not None


def _names_other(gap: str, says: bool) -> bool:
    """Whether the words between say that the value is an amount, an order number or the like."""
    last = _last(_OTHER, gap)
    return last is not None and (_SAYS.search(gap, last.end()) is None or _COMPLEMENT.search(gap[: last.start()]) is None)


def _names_holder(gap: str, says: bool) -> bool:
    """Whether the value belongs to a card: "the PIN for my card 4821" tells the end of its number, "the PIN for my card is 4821" tells a PIN."""
    last = _last(_HOLDER, gap)
    if last is None or _SAYS.search(gap, last.end()):
        return False
    return not (says and (_COMPLEMENT.search(gap[: last.start()]) or _SAYS_AT_END.search(gap[-32:])))


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    matches = deque(pattern.finditer(text), maxlen=1)
    return matches[0] if matches else None
