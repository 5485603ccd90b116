"""The nightly drill: does every reader of the flag get the teacher when it should?

The live flag is read, not changed. What would make the teacher respond is tried on copies of it: a pin, a flag that is disabled, cut off,
missing, of a newer version, or at odds with its metadata, a student without a version, and a cascade without a threshold.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from redistill.promotion.cascade import Cascade
from redistill.serving.route_flag import FLAG, evaluate, flag_file, read_route
from redistill.serving.types import Route

_STUDENT = Route("none", "student", "1", "drill", "2026-01-01T00:00:00+00:00")
_CASCADE = replace(_STUDENT, mode="cascade", cascade=Cascade("sum_logprob", -1.0, 0.05, "0" * 64, ()))


@dataclass(frozen=True, slots=True)
class DrillCheck:
    """What a reader got from a flag, and what it should get."""

    case: str
    reader: str
    expected: str
    got: str
    advice: str = "pin the teacher with `redistill route set teacher --reason REASON` until it is fixed"

    @property
    def passed(self) -> bool:
        return self.got == self.expected


READERS: dict[str, Callable[[Path], str]] = {
    "redistill": lambda file: read_route(file).answers,
    "OpenFeature, flagd file": lambda file: evaluate(file, timeout_s=5.0),
}


def drill(flags: Path) -> list[DrillCheck]:
    """Every reader on the live flag, and on a copy for each case."""
    live = read_route(flags).answers
    checks = [DrillCheck("the live flag", name, live, read(flags)) for name, read in READERS.items()]
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, expected, text) in enumerate(_cases()):
            file = Path(folder) / str(number) / "flags.json"
            file.parent.mkdir()
            if text is not None:
                file.write_text(text, encoding="utf-8")
            checks += [DrillCheck(case, name, expected, read(file)) for name, read in READERS.items()]
    return checks


def _cases() -> list[tuple[str, str, str | None]]:
    """Case, the expected reader's result, and the file's text; None: there is no file."""
    student = flag_file(_STUDENT)
    disabled: Any = json.loads(json.dumps(student))
    disabled["flags"][FLAG]["state"] = "DISABLED"
    unknown: Any = json.loads(json.dumps(student))
    unknown["flags"][FLAG] |= {"defaultVariant": "both", "metadata": {**unknown["flags"][FLAG]["metadata"], "mode": "both"}}
    unset: Any = flag_file(_CASCADE)
    unset["flags"][FLAG]["metadata"]["cascade"] = "{}"
    contradicts: Any = flag_file(replace(_STUDENT, mode="teacher", model_version=None))
    contradicts["flags"][FLAG]["defaultVariant"] = "student"
    text = json.dumps(student)
    return [
        ("a promoted student", "student", text),
        ("a promoted cascade", "cascade", json.dumps(flag_file(_CASCADE))),
        ("a cascade without a threshold", "teacher", json.dumps(unset)),
        ("the teacher is pinned", "teacher", json.dumps(flag_file(replace(_STUDENT, pin="teacher")))),
        ("no student is promoted", "teacher", json.dumps(flag_file(replace(_STUDENT, mode="teacher", model_version=None)))),
        ("the flag is disabled", "teacher", json.dumps(disabled)),
        ("flag and metadata do not agree", "teacher", json.dumps(contradicts)),
        ("a mode that this version does not know", "teacher", json.dumps(unknown)),
        ("the file is cut off", "teacher", text[: len(text) // 2]),
        ("the file is missing", "teacher", None),
    ]
