"""Flag and metadata of the flag file must say the same, else the teacher answers; and no file, whatever it is, stops a reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redistill.promotion.cascade import Cascade, Engine
from redistill.serving.route_flag import FLAG, SAFE, evaluate, flag_file, read_route, to_version, update_route, with_pin
from redistill.serving.types import Route
from tests.tiny_project import ROOT

TEACHER = Route("none", "teacher", None, "no student passed", "2026-11-22T02:00:00+00:00")
STUDENT = replace(TEACHER, mode="student", model_version="7", reason="version 7 was promoted")
CASCADE = replace(STUDENT, mode="cascade", cascade=Cascade("s", -0.4, 0.05, "a" * 64, (Engine("vllm", "0.32.0", "bfloat16"),)))


def changed(route: Route, change: Callable[[dict[str, Any]], object]) -> str:
    tree = flag_file(route)
    change(tree["flags"][FLAG])
    return json.dumps(tree)


DISAGREE = {
    "the flag says student, the metadata teacher": changed(TEACHER, lambda f: f.update(defaultVariant="student")),
    "the flag says teacher, the metadata student": changed(STUDENT, lambda f: f.update(defaultVariant="teacher")),
    "the flag says student, the metadata cascade": changed(CASCADE, lambda f: f.update(defaultVariant="student")),
    "the flag goes around a pin": changed(replace(STUDENT, pin="teacher"), lambda f: f.update(defaultVariant="student")),
    "teacher is a name for the student": changed(TEACHER, lambda f: f["variants"].update(teacher="student")),
    "a variant that does not exist": changed(STUDENT, lambda f: f.update(defaultVariant="other")),
    "no variants": changed(STUDENT, lambda f: f.pop("variants")),
    "no default": changed(STUDENT, lambda f: f.pop("defaultVariant")),
    "another rule for some users": changed(STUDENT, lambda f: f.update(targeting={"if": [{"in": ["vip", {"var": "user"}]}, "cascade"]})),
}


@pytest.mark.parametrize("content", DISAGREE.values(), ids=DISAGREE)
def test_in_doubt_the_teacher_answers_and_the_next_write_repairs_the_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "flags.json"
    file.write_text(content, encoding="utf-8")
    assert read_route(file).answers == "teacher"
    assert evaluate(file, timeout_s=1.0) == "teacher"
    assert update_route(file, lambda now: now).answers == "teacher"
    assert json.loads(file.read_text(encoding="utf-8")) == flag_file(read_route(file)), "flag and metadata agree again"
    update_route(file, lambda now: to_version(now, "8", None, "version 8 was promoted"))
    assert read_route(file).model_version == "8"


def test_the_repair_keeps_a_pin_to_the_teacher(tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    file.write_text(DISAGREE["the flag goes around a pin"], encoding="utf-8")
    update_route(file, lambda now: to_version(now, "8", None, "version 8 was promoted"))
    assert (read_route(file).pin, read_route(file).answers) == ("teacher", "teacher")
    file.write_text(changed(with_pin(STUDENT, "student", "r"), lambda f: f.update(defaultVariant="teacher")), encoding="utf-8")
    assert read_route(file).pin == "none", "a pin to the student is not taken from a file that contradicts itself"


def test_a_file_of_before_there_were_cascades_is_read(tmp_path: Path) -> None:
    tree = flag_file(STUDENT)
    del tree["flags"][FLAG]["variants"]["cascade"], tree["flags"][FLAG]["metadata"]["teacher"]
    (tmp_path / "flags.json").write_text(json.dumps(tree), encoding="utf-8")
    before = (tmp_path / "flags.json").stat().st_mtime_ns
    assert read_route(tmp_path / "flags.json") == STUDENT
    assert update_route(tmp_path / "flags.json", lambda now: now) == STUDENT and (tmp_path / "flags.json").stat().st_mtime_ns == before


def fifo(file: Path) -> None:
    os.mkfifo(file)


def huge(file: Path) -> None:
    with open(file, "wb") as handle:
        handle.write(json.dumps(flag_file(STUDENT)).encode())
        handle.truncate(64 << 30)  # a hole: it needs no disk


def device(file: Path) -> None:
    file.symlink_to("/dev/zero")


READ = """
import resource, sys
from redistill.serving.route_flag import SAFE, evaluate, read_route, update_route, to_teacher
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
assert read_route(sys.argv[1]) == SAFE and evaluate(sys.argv[1], timeout_s=1.0) == "teacher"
update_route(sys.argv[1], lambda now: to_teacher(now, "repaired"))
assert read_route(sys.argv[1]).reason == "repaired"
"""


@pytest.mark.parametrize("make", [fifo, huge, device])
def test_no_kind_of_file_stops_a_reader(tmp_path: Path, make: Callable[[Path], None]) -> None:
    file = tmp_path / "flags.json"
    make(file)
    done = subprocess.run([sys.executable, "-c", READ, str(file)], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-1500:]
    assert file.is_file() and SAFE.answers == "teacher"
