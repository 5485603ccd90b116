"""Who acts comes from one place, and one person is not two by another spelling."""

from __future__ import annotations

import re

import pytest

from redistill.runtime.identity import USER, current_user, same_person
from tests.tiny_project import ROOT


@pytest.mark.parametrize("other", ["ada", "Ada", " ADA ", "ada\n", "\u00a0ada", "ａｄａ"])
def test_one_person_in_another_spelling(other: str) -> None:
    assert same_person("ada", other) and same_person(other, "ada")


@pytest.mark.parametrize(("one", "other"), [("ada", "adam"), ("ada", ""), ("", ""), (None, None), (" ", "")])
def test_others_and_nobody(one: str | None, other: str | None) -> None:
    assert not same_person(one, other)


def test_an_empty_name_is_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(USER, raising=False)
    account = current_user()
    monkeypatch.setenv(USER, " \t")
    assert current_user() == account != ""
    monkeypatch.setenv(USER, " Ada  Lovelace ")
    assert current_user() == "Ada Lovelace"


def test_there_is_one_place_that_asks() -> None:
    asking = [
        file.relative_to(ROOT).as_posix()
        for folder in ("src", "tasks", "flows")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"getpass\.|environ.*REDISTILL_USER", file.read_text(encoding="utf-8"))
    ]
    assert asking == ["src/redistill/runtime/identity.py"]
