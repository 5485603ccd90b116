"""How the server of a model says in which number format it computes: it lists ``MODEL@VERSION:FORMAT`` beside ``MODEL@VERSION``.

vLLM says its version, but not its format, and a router may run where torch is not installed, or on another kind of processor. So the format is part of what
the server is started with, and holds as long as that server runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

NumberFormat = Literal["bfloat16", "float32", "float16"]


def name_with_format(name: str, number_format: str) -> str:
    """The second name of a model's server."""
    return f"{name}:{number_format}"


def listed_format(name: str, listed: Iterable[str]) -> str:
    """What a server says of its format; empty where it says nothing.

    A text that is no format, or several (as a gateway before two servers may list), comes back as it is: no threshold was measured for that.
    """
    start = name_with_format(name, "")
    return " and ".join(sorted({each.removeprefix(start) or "none" for each in listed if each.startswith(start)}))[:60]
