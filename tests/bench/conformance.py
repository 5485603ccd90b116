"""The twelve rules on every implementation that is installed, as one table: ``python -m tests.bench.conformance``.

A cell is the measured error where there is one; ✗ marks a rule that is broken, – one that there is nothing to try on.
"""

from __future__ import annotations

from importlib.metadata import version

from redistill.conformance.implementations import conformance
from redistill.conformance.protocol import Finding


def _cell(finding: Finding) -> str:
    if finding.outcome == "not applicable":
        return "–"
    told = "" if finding.error is None else f"{finding.error:.0e}"
    return f"✗ {told or 'silent'}" if finding.outcome == "fail" else told or "ok"


def main() -> None:
    found = conformance(None)
    print(f"torch {version('torch')}\n")
    print("| rule | " + " | ".join(f"{name}<br>{told.rsplit(' ', 1)[-1]}" for name, (told, _) in found.items()) + " |")
    print("|---|" + "---|" * len(found))
    rules = list(next(iter(found.values()))[1])
    for number, rule in enumerate(rules, 1):
        cells = [_cell(findings[rule]) for _, findings in found.values()]
        print(f"| {number}. {rule} | " + " | ".join(cells) + " |")
    passed = [
        f"{sum(f.outcome == 'pass' for f in findings.values())} ok, {sum(f.outcome == 'fail' for f in findings.values())} broken"
        for _, findings in found.values()
    ]
    print("| | " + " | ".join(passed) + " |\n")
    print("What was measured where a rule is broken:\n")
    for name, (told, findings) in found.items():
        for rule, f in findings.items():
            if f.outcome == "fail":
                print(f"- {name} ({told}), {rule}: {'' if f.error is None else f'{f.error:.2g}; '}{f.why}")


if __name__ == "__main__":
    main()
