"""IP addresses of both versions. The number of a program's version or of a chapter looks like one, and is none."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import IP, Finding

_DOT = r"(?:\.|\s?[\[({]\s?(?:\.|dot)\s?[\])}]\s?|\s\.\s|\sdot\s)"
_OCTET = r"(?:25[0-5]|2[0-4]\d|[01]?\d?\d)"
_V4 = re.compile(rf"(?<![\w.+£$€])(?:{_OCTET}{_DOT}){{3}}{_OCTET}(?!\w|\.\d)", re.IGNORECASE)
_NAMED_V4 = re.compile(
    rf"\bip(?:v4)?\b[\s:=#(-]{{0,3}}(?:(?:address|is|was|number|addr)\b[\s:=-]{{0,3}}){{0,3}}(?P<value>{_OCTET}[\s,._-]{{1,2}}(?:{_OCTET}[\s,._-]{{1,2}}){{2}}{_OCTET})(?![\w])",
    re.IGNORECASE,
)
_V6 = re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}(?=:)|:(?=:))[0-9a-fA-F:]{2,38}(?![\w:])")
_NUMBERING = re.compile(
    r"(?:\b(?:v|ver|version|versions|release|build|firmware|section|sec|chapter|clause|paragraph|article|item|rule|step|update|updated to|windows|ios|"
    r"macos|android|os|app|driver|chrome|firefox|kernel|software|patch)|§)[\s.:#-]*(?:(?:is|no|number|to)\s+)?$",
    re.IGNORECASE,
)
_ABOUT_NETWORKS = re.compile(r"\b(?:ip|ipv4|dns|server|host|router|address|network|login|logged|from|gateway|proxy|vpn)\b", re.IGNORECASE)
_MAY_HOLD_V4 = re.compile(
    r"\d[^\w]{0,3}(?:dot)?[^\w]{1,3}\d{1,3}[^\w]{0,3}(?:dot)?[^\w]{1,3}\d{1,3}[^\w]{0,3}(?:dot)?[^\w]{1,3}\d", re.IGNORECASE
)
_AMOUNT = re.compile(r"\d{1,3}(?:\.\d{3}){3}")
_NOBODY = frozenset({"0.0.0.0", "127.0.0.1", "255.255.255.255"})  # noqa: S104 - nothing is bound


def ip_addresses(text: str) -> Iterator[Finding]:
    """Every IP address of a text in normal form, but for those that every machine has."""
    for match in _V4.finditer(text) if (may_hold := _MAY_HOLD_V4.search(text)) else ():
        value = ".".join(re.findall(r"\d+", match.group()))
        small = all(len(octet) == 1 for octet in value.split("."))
        if _AMOUNT.fullmatch(value) and not _ABOUT_NETWORKS.search(text):
            continue
        if value in _NOBODY or _NUMBERING.search(text[: match.start()][-24:]) or (small and not _ABOUT_NETWORKS.search(text)):
            continue
        yield Finding(IP, *match.span())
    if may_hold:
        yield from (Finding(IP, *match.span("value")) for match in _NAMED_V4.finditer(text))
    if "::" in text or text.count(":") >= 7:
        for match in _V6.finditer(text):
            if _is_v6(match.group()):
                yield Finding(IP, *match.span())


def _is_v6(value: str) -> bool:
    # C++ also writes a::b: an address has more, and a digit.
    groups = [group for group in value.split(":") if group]
    local = len(groups) == 2 and re.fullmatch(r"(?:fe80|f[cd][0-9a-f]{2}|[23][0-9a-f]{3})", groups[0], re.IGNORECASE)
    if (len(groups) < 3 and not local) or not any(c.isdigit() for c in value):
        return False
    try:
        return bool(ipaddress.IPv6Address(value))
    except ValueError:
        return False
