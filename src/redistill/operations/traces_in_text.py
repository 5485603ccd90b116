"""Prompts in files of text: entries with a prompt's id go, and a whole value, a whole text of a page or a whole line that is a prompt's text is replaced.

A text inside of a longer text stays. It may be a word of other people's rows, or a part of a setting.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

REMOVED = "[forgotten]"
_NO_TEXT = re.compile(r"(<!--.*?-->|<script\b.*?</script\s*>|<style\b.*?</style\s*>|<[^<>]*>)", re.DOTALL | re.IGNORECASE)
"""What of a page is not shown: comments, programs, styles and tags. The report's templates escape every other ``<`` and ``>``."""
_PLAIN = re.compile(r"[A-Za-z0-9]+")


def normalised(text: str) -> str:
    """A text without what differs between the places that show it: its line breaks and repeated spaces."""
    return " ".join(text.split())


def without(text: str, ids: frozenset[str], texts: frozenset[str]) -> str:
    """A page, JSON, lines of JSON or plain lines without these prompts; the same text where it holds nothing of them. ``texts`` are normalised."""
    if not any(each in text for each in ids) and not any(_may_hold(text, each) for each in texts):
        return text
    if text.lstrip()[:1] == "<":
        return _page(text, texts)
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return "".join(_line(line, ids, texts) for line in text.splitlines(keepends=True))
    kept = without_entries(tree, ids, texts)
    return text if kept == tree else _dumped(kept, 2 if "\n" in text.strip() else None) + "\n"


def without_entries(value: Any, ids: frozenset[str], texts: frozenset[str]) -> Any:
    """A tree without the entries of lists that are about these prompts, and without values that are their texts."""
    if isinstance(value, dict):
        return {key: without_entries(each, ids, texts) for key, each in value.items() if key not in ids and normalised(key) not in texts}
    if isinstance(value, list):
        return [without_entries(each, ids, texts) for each in value if not _is_about(each, ids)]
    return REMOVED if isinstance(value, str) and texts and normalised(value) in texts else value


def _is_about(value: Any, ids: frozenset[str]) -> bool:
    """Whether an entry has one of these ids as a value. An id is a digest, so no other value is equal to it."""
    return isinstance(value, dict) and any(isinstance(each, str) and each in ids for each in value.values())


def _line(line: str, ids: frozenset[str], texts: frozenset[str]) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict | list):
        return line if normalised(line) not in texts else REMOVED + "\n" * line.endswith("\n")
    if _is_about(row, ids):
        return ""
    kept = without_entries(row, ids, texts)
    return line if kept == row else _dumped(kept, None) + "\n" * line.endswith("\n")


def _dumped(value: Any, indent: int | None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # Half of a surrogate pair, which only an escape can spell.
        return json.dumps(value, indent=indent)
    return text


def _page(text: str, texts: frozenset[str]) -> str:
    parts = _NO_TEXT.split(text)
    # Every second part is one that the pattern matched.
    return "".join(part if place % 2 or normalised(html.unescape(part)) not in texts else REMOVED for place, part in enumerate(parts))


def _may_hold(text: str, form: str) -> bool:
    """A quick look before a file is parsed: letters and digits are spelled alike in JSON, pages and lines."""
    return max(_PLAIN.findall(form), key=len, default="") in text
