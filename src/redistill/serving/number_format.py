"""How the server of a model says in which number format it computes: it lists ``MODEL@VERSION:FORMAT`` beside ``MODEL@VERSION``.

vLLM says its version, but not its format, and a router may run where torch is not installed, or on another kind of processor. So the format is part of what
the server is started with, and holds as long as that server runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

NumberFormat = Literal["bfloat16", "float32", "float16"]


def name_with_format(name: str, number_format: str) -> str:
    """The second name of a model's server."""
    return f"{name}:{number_format}"


def listed_format(name: str, listed: Iterable[str]) -> str:
    """The format that a server says; empty where it says none, or two."""
    names = set(listed)
    formats = [each for each in get_args(NumberFormat) if name_with_format(name, each) in names]
    return formats[0] if len(formats) == 1 else ""
