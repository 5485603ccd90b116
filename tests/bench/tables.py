"""Tables of measurements and simulations, as Markdown between two marks of a page."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Table:
    title: str
    head: list[str]
    rows: list[list[str]]

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", f"| {' | '.join(self.head)} |", f"|{'---|' * len(self.head)}"]
        return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in self.rows)])

    def of_page(self, text: str, mark: str) -> list[list[str]] | None:
        """The rows that the page holds under this title and head; None if it holds none."""
        top = replace(self, rows=[]).markdown() + "\n"
        _, _, rest = text.partition(f"<!-- {mark} -->\n")
        body, _, _ = rest.partition(f"<!-- end of {mark} -->")
        _, same, lines = body.partition(top)
        if not same:
            return None
        return [line.strip("|").strip().split(" | ") for line in lines.partition("\n\n")[0].splitlines()]


def rewritten(text: str, tables: list[Table], mark: str = "simulation") -> str:
    """The page with other tables between the marks."""
    body = "\n\n".join(t.markdown() for t in tables)
    before, start, rest = text.partition(f"<!-- {mark} -->\n")
    _, end, after = rest.partition(f"<!-- end of {mark} -->")
    assert start and end, f"the page has lost its mark {mark}"
    return f"{before}{start}{body}\n{end}{after}"
