"""A chat template with today's date would make different prompts every day. So its date is fixed when a checkpoint is written.

transformers gives templates a function ``strftime_now(format)`` (``render_jinja_template``). A macro of that name in front of a template replaces it. So
everything that renders the saved template states the fixed date, also a server, and the digest of the template covers the date.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

from redistill.errors import ConfigError

_CALL = re.compile(r"\bstrftime_now\s*\(")
_LITERAL = re.compile(r"""\bstrftime_now\s*\(\s*(?:format\s*=\s*)?(?:"([^"\\]*)"|'([^'\\]*)')\s*\)""")
_MACRO = "{% macro strftime_now(format) %}"


def states_the_date(template: str) -> bool:
    """Whether it uses today's date when it is rendered. False if the date is fixed already."""
    return bool(_CALL.search(template)) and not template.startswith(_MACRO)


def with_date(template: str, date: dt.date) -> str:
    """The template with ``date`` (at midnight) as today.

    Raises:
        ConfigError: the template computes the date's format while it is rendered.
    """
    if not states_the_date(template):
        return template
    literals = _LITERAL.findall(template)
    if len(literals) != len(_CALL.findall(template)):
        raise ConfigError(
            "the chat template computes its date format, so redistill cannot fix the date and prompts would change every day; "
            "write the format as text in the template's strftime_now(…), or use data.format: plain"
        )
    now = dt.datetime.combine(date, dt.time())
    dates = {f: now.strftime(f) for f in sorted({double or single for double, single in literals})}
    return f"{_MACRO}{{{{ {json.dumps(dates)}[format] }}}}{{% endmacro %}}\n{template}"


def fix_date(tokenizer: Any, date: dt.date | None) -> bool:
    """Fix the date in a tokenizer's chat templates, and say whether there was one to fix. Without a ``date`` nothing is done."""
    given = tokenizer.chat_template
    # One template, or several by name.
    templates = given if isinstance(given, dict) else {"": given or ""}
    if date is None or not any(states_the_date(t) for t in templates.values()):
        return False
    fixed = {name: with_date(t, date) for name, t in templates.items()}
    tokenizer.chat_template = fixed if isinstance(given, dict) else fixed[""]
    return True
