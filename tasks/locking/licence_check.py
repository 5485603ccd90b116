"""The licence reviews of this project, checked against the teacher and the data that its params name. Code that asks a teacher or reads data calls this first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from redistill.config.file import load_sections
from redistill.data.params import DataParams
from redistill.io.json import read_json
from redistill.teacher.params import TeacherParams
from redistill.validation.licences import Used, data_licences, review, today_utc
from redistill.validation.params import GovernanceParams
from tasks.paths import LOCK, SOURCES

_SECTIONS: tuple[Any, ...] = (GovernanceParams, TeacherParams, DataParams)


def reviewed(governance: GovernanceParams, teacher: TeacherParams, data: DataParams) -> list[dict[str, Any]]:
    """What the lock records of the reviews, if all of them hold today.

    Raises:
        ConfigError: as ``redistill.validation.licences.review``.
    """
    return review(governance, _used(teacher, data), today_utc(), Path())


def require_reviewed() -> None:
    """Stop what would ask the teacher or read data without a valid review, also where no flow has checked it.

    It reads params.yaml itself. If the reviews were params of a stage, an edited date would run the stage again.

    Raises:
        ConfigError: as ``reviewed``.
    """
    governance, teacher, data = load_sections(list(_SECTIONS))
    reviewed(governance, teacher, data)


def licences_of(governance: GovernanceParams, teacher: TeacherParams, data: DataParams, source: str) -> frozenset[str]:
    """The licences that the reviews of a source name, if all reviews hold today.

    Raises:
        ConfigError: as ``reviewed``.
    """
    reviewed(governance, teacher, data)
    return licences_named(governance, teacher, data, source)


def licences_named(governance: GovernanceParams, teacher: TeacherParams, data: DataParams, source: str) -> frozenset[str]:
    """The licences that the reviews of a source name, whether or not they hold."""
    return data_licences(governance, _used(teacher, data), source)


def _used(teacher: TeacherParams, data: DataParams) -> Used:
    sources = tuple(source.path for source in data.source)
    return Used(teacher.model, teacher.revision, teacher.backend, sources, tuple(_locked()))


def _locked() -> list[dict[str, Any]]:
    """The reviews in the teacher's lock. Earlier locks do not say what each review was about: it was what they lock."""
    lock = read_json(LOCK) if LOCK.is_file() else {}
    source, data = lock.get("source", {}), read_json(SOURCES).get("sources", []) if SOURCES.is_file() else []
    teacher = {key: source.get(key) for key in ("model", "revision", "backend")}
    before = {"teacher": teacher, "outputs": teacher, "data": {"sources": [each.get("traffic", each["path"]) for each in data]}}
    return [{**each, "of": each.get("of", before.get(each.get("covers")))} for each in lock.get("licence", [])]
