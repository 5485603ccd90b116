"""The template around a message: text with ``{column}`` where a column of the row is shown, such as ``{text}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

TEXT = "text"
"""The placeholder of the message, whatever its column is called."""

_NAME = r"[^\W\d][\w .-]*"
# Two braces are one brace as text. JSON in a template needs no second brace: its quotes and spaces make it no name.
_PLACEHOLDER = re.compile(rf"\{{\{{(?P<literal>{_NAME})\}}\}}|\{{(?P<name>{_NAME})\}}")


@lru_cache(maxsize=64)
def placeholders(template: str) -> tuple[str, ...]:
    """The columns that a template shows, each once, in order."""
    return tuple(dict.fromkeys(m["name"] for m in _PLACEHOLDER.finditer(template) if m["name"]))


def as_literal(text: str) -> str:
    """Text for a template in which nothing is a placeholder."""
    return _PLACEHOLDER.sub(lambda m: f"{{{m.group()}}}", text)


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each placeholder replaced by its value; a column that the row lacks is empty."""
    return _PLACEHOLDER.sub(lambda m: f"{{{m['literal']}}}" if m["literal"] else values.get(m["name"], ""), template)
