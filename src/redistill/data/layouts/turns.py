"""Checks that layouts of conversations share: everything that a model would be shown must be shown here, or the row is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redistill.data.layouts.types import Request
from redistill.data.readers.files import shown_names
from redistill.data.types import Message
from redistill.errors import DataError

_EMPTY: tuple[Any, ...] = (None, "", [], {})
ROLES = ("system", "user", "assistant", "tool")
_OF_ROWS = ("tools", "functions", "history", "images", "audio", "documents")
_OF_TURNS = ("tool_calls", "function_call", "tool_call_id", "name", "images", "audio")
"""Keys that change what a model is asked, and that no template here shows."""


def turns_of(row: dict[str, Any], key: str, where: str) -> list[dict[str, Any]] | None:
    """The turns that a row has under ``key``, all of whose content can be shown; None where the row has no such key.

    Raises:
        DataError: it is no list of turns, or some content would vanish.
    """
    turns = row.get(key)
    if turns is None:
        return None
    check_row(row, where)
    _check_turns(turns, key, where)
    return list(turns)


def check_row(row: dict[str, Any], where: str) -> None:
    """Refuse a row with content beside its turns that would vanish.

    Raises:
        DataError: says which keys.
    """
    _refuse({key for key in _OF_ROWS if row.get(key) not in _EMPTY}, where)


def _check_turns(turns: Any, name: str, where: str) -> None:
    """Refuse what is no list of turns, and turns with content that would vanish.

    Raises:
        DataError: says which keys.
    """
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{where}: {name} must be a list of objects, one for each turn")
    _refuse({key for turn in turns for key in _OF_TURNS if turn.get(key) not in _EMPTY}, where)


def _refuse(vanishing: set[str], where: str) -> None:
    if vanishing:
        raise DataError(
            f"{where}: it has {', '.join(sorted(vanishing))}, which redistill cannot show to a model yet; leave such rows out, or write their content as text"
        )


def request_from(turns: Sequence[tuple[Any, Any]], where: str) -> Request:
    """Turns of (role, content) as a request; a last turn of the assistant is its completion.

    Raises:
        DataError: an unknown role, content that is not text, or nothing that is asked.
    """
    messages = []
    for role, content in turns:
        if role not in ROLES:
            raise DataError(f"{where}: the role {shown_names([role])} is unknown; the roles are {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise DataError(
                f"{where}: the content of a turn of {role} must be text, but it is {type(content).__name__}; write it as a string"
            )
        messages.append(Message(role, content))
    completion = messages.pop().content if messages and messages[-1].role == "assistant" else None
    if not messages or messages[-1].role == "assistant":
        raise DataError(f"{where}: the conversation asks nothing: before the assistant's last turn there must be a turn of another role")
    if messages[-1].role == "system":
        raise DataError(f"{where}: the conversation ends with a system message; it must end with the request")
    return Request(tuple(messages), completion)
