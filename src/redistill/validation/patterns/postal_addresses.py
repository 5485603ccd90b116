"""Postal addresses: a street with its number in some languages, British postcodes, American ZIP codes behind a state, and post boxes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import ADDRESS, Finding
from redistill.validation.patterns.signs import holds_any

_TYPES = (
    "Street|St|Road|Rd|Avenue|Ave|Av|Lane|Ln|Drive|Dr|Close|Court|Ct|Crescent|Cres|Way|Place|Pl|Terrace|Gardens|Gdns|Square|Sq|Boulevard|Blvd|Hill|Grove|"
    "Row|Mews|Walk|Park|View|Rise|Parade|Quay|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Trail|Loop|Green|Common|Wharf|Yard|Gate|Path|Heights|Plaza|Broadway|Alley|Vale|"
    "Mount|Drove|Embankment|Bypass|Chase|Croft|Esplanade|Fields|Villas"
)
_CAPITAL = r"[A-Z](?:[^\W\d]|['.-]){0,24}"
_NUMBER = r"(?<![\w£$€.,:/-])(?<![£$€] )\d{1,5}[A-Za-z]?(?:[-/]\d{1,4}[A-Za-z]?)?"
_DWELLING = r"(?<!\w)(?:(?:[Ff]lat|[Aa]pt\.?|[Aa]partment|[Uu]nit|[Ss]uite|[Rr]oom|FLAT|UNIT|APT)\s\w{1,4},?\s)"
_AREAS = (
    "AB|AL|B|BA|BB|BD|BF|BH|BL|BN|BR|BS|BT|BX|CA|CB|CF|CH|CM|CO|CR|CT|CV|CW|DA|DD|DE|DG|DH|DL|DN|DT|DY|E|EC|EH|EN|EX|FK|FY|G|GL|GU|GY|HA|HD|HG|HP|HR|HS|HU|"
    "HX|IG|IM|IP|IV|JE|KA|KT|KW|KY|L|LA|LD|LE|LL|LN|LS|LU|M|ME|MK|ML|N|NE|NG|NN|NP|NR|NW|OL|OX|PA|PE|PH|PL|PO|PR|RG|RH|RM|S|SA|SE|SG|SK|SL|SM|SN|SO|SP|SR|SS|"
    "ST|SW|SY|TA|TD|TF|TN|TQ|TR|TS|TW|UB|W|WA|WC|WD|WF|WN|WR|WS|WV|YO|ZE"
)
_POSTCODE = (
    rf"(?<![A-Za-z0-9-])(?:{_AREAS})\d[0-9A-Za-z]?[ ]{{0,2}}\d(?!(?i:st|nd|rd|th)\b)[ABD-HJLNP-UW-Zabd-hjlnp-uw-z]{{2}}(?![A-Za-z0-9])"
)
_STATES = "AL|AK|AZ|AR|CA|CO|CT|DE|DC|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|OH|OK|OR|PA|PR|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY"
_ZIP = rf"(?:{_CAPITAL}\s?){{1,3}},?\s(?:{_STATES})\.?,?\s\d{{5}}(?:-\d{{4}})?(?!\d)"
_TOWNS = rf"(?:\s(?:NW|NE|SW|SE|N|S|E|W)\b)?(?:,?\s(?:#\s?|[Aa]pt\.?\s|[Ss]uite\s|[Ff]lat\s|[Uu]nit\s)\w{{1,5}})?(?:,\s{_CAPITAL}(?:\s{_CAPITAL}){{0,2}}){{0,3}}"
_END = rf"(?:,?\s(?:{_POSTCODE}|\d{{5}}(?:-\d{{4}})?(?!\d)))?"
_LOWER_TYPES = "street|road|avenue|lane|crescent|terrace|boulevard|gardens|mews|grove|rd|ave|blvd|str"
# Words that stand between a number and a road without being its name.
_NO_STREET = (
    r"(?!(?:the|a|an|on|in|of|down|up|my|this|that|to|from|at|and|with|for|was|is|it|times|miles|km|m|minutes|min|hours|days|weeks|months|years|shops|people|"
    r"cars|am|pm|more|other|or|by|per|main|pounds|euros|cards?|accounts?|branches|machines?|st|nd|rd|th|x|off|along|across|busy|different)\b)"
)
_NAMED = (
    r"\b(?:(?:my|our|new|home|postal|delivery|billing|current|his|her|their) address(?:\s(?:is|now|was|has changed to|changed to|will be)|:){1,2}|live at|living at|lives at|"
    r"deliver to|moved to|ich wohne|wohne|adresse:?|anschrift:?|vivo en|abito in|j'habite)\s(?P<value>"
)
# Each pattern begins at a number, which is quick to look for.
_AT_NUMBER = (
    re.compile(rf"{_NUMBER},?\s(?:{_CAPITAL}\s){{1,4}}(?:{_TYPES})\b\.?{_TOWNS}{_END}"),
    re.compile(
        rf"{_NUMBER},?\s(?:{_NO_STREET}[a-z][\w'-]{{1,20}}\s){{1,2}}(?:{_LOWER_TYPES})\b(?:,\s?[a-z]{{3,20}})?(?:,?\s{_POSTCODE})?",
        re.IGNORECASE,
    ),
    re.compile(
        rf"{_NUMBER}(?:\s?(?:bis|ter))?,?\s(?:rue|avenue|boulevard|bd|place|chemin|allée|allee|impasse|quai|route|cours)\s(?:de la |de l'|des |du |de |d'|"
        rf"la |le |les |l')?[\w'-]{{2,25}}(?:\s[A-Z][\w'-]+){{0,3}}(?:,?\s\d{{5}}\s{_CAPITAL})?",
        re.IGNORECASE,
    ),
)
_NUMERAL = re.compile(r"\d+")
_NUMBER_AND_WORD = re.compile(r"\d[\w/-]{0,6},?\s[^\W\d]")
_INNER_POSTCODE = re.compile(r"\d[A-Za-z]{2}(?![A-Za-z0-9])")
_FIVE_DIGITS = re.compile(r"\d{5}(?!\d)")
_WHOLE_POSTCODE, _STATE_AND_ZIP = re.compile(_POSTCODE, re.IGNORECASE), re.compile(_ZIP)
_BEHIND_DWELLING = re.compile(rf"{_DWELLING}$")
# Others begin with a word: the pattern, and the small letters without which it cannot match.
_WITH_WORDS = (
    (
        re.compile(rf"{_NAMED}\d{{1,5}}[A-Za-z]?,?\s(?:[A-Za-z][\w'-]*\s){{1,4}}(?:{_TYPES})\b(?:,?\s[A-Za-z]{{3,20}})?)", re.IGNORECASE),
        ("address", " at ", " to "),
    ),
    (
        re.compile(
            rf"\b[Aa]ddress(?:\s(?:is|now|has changed to|changed to|will be|was)|:){{1,2}}\s(?P<value>{_CAPITAL}(?:\s{_CAPITAL}){{0,3}}"
            rf"(?:,\s{_CAPITAL}(?:\s{_CAPITAL}){{0,3}}){{1,4}})"
        ),
        ("address",),
    ),
    (
        re.compile(rf"{_NAMED}(?:[^\W\d_]+\s){{1,3}}\d{{1,4}}\s?[a-z]?\b)", re.IGNORECASE),
        ("wohne", "adresse", "anschrift", "vivo en", "abito in", "habite"),
    ),
    (
        re.compile(r"\b(?:p\.?\s?o\.?\s?box|postbox|post box|postfach|boîte postale|apartado)\s(?:no\.?\s)?\d{1,6}\b", re.IGNORECASE),
        ("box", "postfach", "postale", "apartado"),
    ),
    (
        re.compile(
            r"\b\w*(?:straße|strasse|str\.?|gasse|allee|platz|damm|ufer|weg|straat|laan|gracht|plein|kade|gatan|vägen|gade|vej)\s\d{1,4}\s?[a-z]?\b"
            rf"(?:,?\s\d{{4,5}}(?:\s[A-Z]{{2}})?\s{_CAPITAL})?",
            re.IGNORECASE,
        ),
        (
            "straße ",
            "strasse ",
            "str. ",
            "str ",
            "gasse ",
            "allee ",
            "platz ",
            "damm ",
            "ufer ",
            "weg ",
            "straat ",
            "laan ",
            "gracht ",
            "plein ",
            "kade ",
            "gatan ",
            "vägen ",
            "gade ",
            "vej ",
        ),
    ),
    (
        re.compile(
            rf"\b(?:Calle|C/|Avenida|Avda\.?|Plaza|Paseo|Gran|Via|Vía|Viale|Piazza|Corso|Rua|Travessa|Largo|Av\.|ul\.|ulica|al\.)\s(?:de la |de los |del |de |da |das |do |dos |della |dei |degli |di |las |los )?"
            rf"{_CAPITAL}(?:\s(?:de |la |del )?{_CAPITAL}){{0,3}},?\s(?:n[º°.]?\s?)?\d{{1,4}}\w?\b(?:,\s{_CAPITAL})?"
        ),
        (
            "calle ",
            "c/ ",
            "avenida ",
            "avda",
            "plaza ",
            "paseo ",
            "gran ",
            "via ",
            "vía ",
            "viale ",
            "piazza ",
            "corso ",
            "rua ",
            "travessa ",
            "largo ",
            "ul. ",
            "ulica ",
            "al. ",
            "av. ",
        ),
    ),
)


def addresses(text: str) -> Iterator[Finding]:
    """Every postal address of a text in normal form; names of towns alone are none."""
    if _NUMBER_AND_WORD.search(text):
        for number in _NUMERAL.finditer(text):
            for pattern in _AT_NUMBER:
                if match := pattern.match(text, number.start()):
                    dwelling = _BEHIND_DWELLING.search(text, max(0, number.start() - 20), number.start())
                    yield Finding(ADDRESS, dwelling.start() if dwelling else match.start(), match.end())
                    break
    lower = text.lower()
    for pattern, words in _WITH_WORDS:
        if holds_any(lower, words):
            group = "value" if "value" in pattern.groupindex else 0
            yield from (Finding(ADDRESS, *match.span(group)) for match in pattern.finditer(text))
    if _INNER_POSTCODE.search(text):
        yield from (Finding(ADDRESS, *match.span()) for match in _WHOLE_POSTCODE.finditer(text))
    if _FIVE_DIGITS.search(text):
        yield from (Finding(ADDRESS, *match.span()) for match in _STATE_AND_ZIP.finditer(text))
