"""A share of the traffic and slices of the teacher in the flag: read back as written, kept by promotions, and the same for readers that use flagd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from redistill.errors import ConfigError
from redistill.serving.route_flag import (
    FLAG,
    flag_file,
    keeping_operators_part,
    read_route,
    to_teacher,
    to_version,
    update_route,
    with_share,
    with_teacher_slices,
    write_route,
)
from redistill.serving.types import Route, route_from_json

STUDENT = Route("none", "student", "7", "version 7 was promoted", "2026-11-22T02:00:00+00:00")
PART = replace(STUDENT, share=0.3, teacher_slices=("business",))


@contextmanager
def flagd(file: Path) -> Iterator[Callable[[str, str], str]]:
    """What a reader with OpenFeature and flagd's file provider gets, by key and slice; no key if it is empty."""
    from openfeature import api
    from openfeature.contrib.provider.flagd import FlagdProvider
    from openfeature.contrib.provider.flagd.config import ResolverType
    from openfeature.evaluation_context import EvaluationContext

    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(file), deadline_ms=10_000)
    try:
        api.set_provider_and_wait(provider, str(file))
        client = api.get_client(str(file))
        yield lambda key, name: client.get_string_value(FLAG, "teacher", EvaluationContext(key or None, {"slice": name}))
    finally:
        provider.shutdown()


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    for route in (PART, replace(STUDENT, share=0.0), replace(PART, pin="teacher"), replace(PART, mode="teacher", model_version=None)):
        write_route(file, route)
        assert read_route(file) == route
    assert flag_file(STUDENT)["flags"][FLAG].keys() == {"state", "variants", "defaultVariant", "metadata"}, "without them, as before"
    assert route_from_json(json.loads(json.dumps(asdict(PART)))) == PART


def test_other_readers_get_the_same(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    write_route(file, PART)
    with flagd(file) as answers:
        students = {n for n in range(300) if answers(f"customer {n}", "private") == "student"}
        assert 60 <= len(students) <= 120, "about 30 %"
        assert {answers(f"customer {n}", "business") for n in students} == {"teacher"}
        assert answers("", "private") == "teacher", "without a key nobody knows on which side a caller is"


def test_a_rule_that_is_not_ours_is_not_followed(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    tree = flag_file(PART)
    tree["flags"][FLAG]["targeting"] = {"fractional": [["student", 100]]}
    file.write_text(json.dumps(tree), encoding="utf-8")
    route = read_route(file)
    assert route.answers == "teacher" and (route.share, route.teacher_slices) == (0.3, ("business",)), (
        "what the operator decided is not lost"
    )


@pytest.mark.parametrize(
    ("key", "value"), [("share", 1.5), ("share", -0.1), ("share", "many"), ("teacher_slices", "[3]"), ("teacher_slices", "{")]
)
def test_nonsense_ends_at_the_teacher(tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "flags.json"
    tree = flag_file(PART)
    tree["flags"][FLAG]["metadata"][key] = value
    file.write_text(json.dumps(tree), encoding="utf-8")
    assert read_route(file).answers == "teacher"


def test_promotions_and_fallbacks_keep_what_the_operator_decided(tmp_path: Path) -> None:
    for route in (to_teacher(PART, "x"), to_version(PART, "8", None, "x"), keeping_operators_part(STUDENT, PART)):
        assert (route.share, route.teacher_slices) == (0.3, ("business",))
    file = tmp_path / "flags.json"
    write_route(file, STUDENT)
    update_route(file, lambda now: with_share(now, 5, "first day"))
    update_route(file, lambda now: with_teacher_slices(now, ["b", "a", "b"], "audit"))
    assert (read_route(file).share, read_route(file).teacher_slices, read_route(file).reason) == (0.05, ("a", "b"), "audit")
    for percent, reason in ((101.0, "x"), (-1.0, "x"), (5.0, " ")):
        with pytest.raises(ConfigError):
            with_share(STUDENT, percent, reason)
