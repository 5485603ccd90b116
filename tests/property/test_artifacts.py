"""Every record kind reads back as it was written."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import tempfile
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.data.types import Message, Prompt
from redistill.distillation.types import SoftTargets, TrainingRow
from redistill.evaluation.types import Outcome
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json, write_json
from redistill.io.parquet import read_records, write_records
from redistill.teacher.types import TeacherAnswer, TeacherCompletion, TeacherRequest
from redistill.validation.types import DroppedRow

RECORDS = [
    importlib.import_module(f"redistill.{room}.types")
    for room in ("data", "teacher", "validation", "statistics", "evaluation", "promotion", "serving", "operations")
]
BULK = (Prompt, TeacherCompletion, DroppedRow, TrainingRow, Outcome)
SMALL = tuple(
    kind
    for kind in (kind for module in RECORDS for kind in vars(module).values() if getattr(kind, "__module__", "") == module.__name__)
    if dataclasses.is_dataclass(kind) and kind not in (*BULK, SoftTargets, Message, TeacherRequest, TeacherAnswer)
)  # fmt: skip


def values(hint: Any, float_width: int) -> st.SearchStrategy[Any]:
    """Any value of a record's field, as its annotation says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return st.none()
    if hint is float:
        return st.floats(allow_nan=False, allow_infinity=False, width=float_width)  # type: ignore[arg-type]
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (Union, types.UnionType):
        return st.one_of(*(values(h, float_width) for h in inner))
    if origin is tuple:
        return st.lists(values(inner[0], float_width), max_size=4).map(tuple)
    if origin is dict:
        return st.dictionaries(values(inner[0], float_width), values(inner[1], float_width), max_size=3)
    if dataclasses.is_dataclass(hint):
        return of(typing.cast("type", hint), float_width)
    plain = {str: st.text(max_size=20), bool: st.booleans(), int: st.integers(0, 2**31 - 1)}
    return plain[hint]


def of(kind: type, float_width: int = 64) -> st.SearchStrategy[Any]:
    return st.builds(kind, **{name: values(hint, float_width) for name, hint in typing.get_type_hints(kind).items()})


@pytest.mark.parametrize("kind", BULK, ids=lambda k: k.__name__)
@given(data=st.data())
def test_bulk_records_survive_parquet(kind: type, data: st.DataObject) -> None:
    # The one float of a bulk record, a mean log-probability, is stored in 32 bits.
    rows = data.draw(st.lists(of(kind, float_width=32), max_size=5))
    with tempfile.TemporaryDirectory() as folder:
        write_records(Path(folder) / "rows.parquet", kind, iter(rows))
        assert read_records(Path(folder) / "rows.parquet", kind) == rows


@pytest.mark.parametrize("kind", SMALL, ids=lambda k: k.__name__)
@given(data=st.data())
def test_small_records_survive_json(kind: type, data: st.DataObject) -> None:
    record = data.draw(of(kind))
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "record.json", record)
        assert read_json(Path(folder) / "record.json") == json.loads(json.dumps(dataclasses.asdict(record)))


@given(value=st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=5))
def test_canonical_digest_knows_no_order(value: dict[str, Any]) -> None:
    turned = dict(reversed(list(value.items())))
    assert canonical_digest(value) == canonical_digest(turned)
    assert canonical_digest({**value, "added": math.pi}) != canonical_digest(value)
