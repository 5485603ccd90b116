"""docs/gates.md says what the gates really do: its tables are what the simulation gives today."""

from __future__ import annotations

from tests.bench import gates


def test_the_tables_are_what_the_command_writes() -> None:
    text = gates.DOC.read_text(encoding="utf-8")
    assert gates.rewritten(text, [make() for make in gates.TABLES]) == text, "run `python -m tests.bench.gates --write`"
