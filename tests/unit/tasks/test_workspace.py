"""A project on servers that it shares: two folders never have the same identity, and a runner refuses the runs of another folder."""

from __future__ import annotations

from pathlib import Path

from redistill.operations.workspace import Workspace, data_name_of, workspace_of

HERE, COPY = (Workspace("Bank_Triage v2", Path(folder), "host") for folder in ("/a", "/b"))


def test_keys_are_what_prefect_accepts() -> None:
    assert HERE.key("decision") == "bank-triage-v2-decision" and HERE.pool == f"redistill-bank-triage-v2-{HERE.id}"


def test_a_copy_of_a_project_is_another_one() -> None:
    assert HERE.id != COPY.id and workspace_of(HERE.tags) == HERE.id and data_name_of(HERE.tags) == "Bank_Triage v2"
    assert HERE.pool != COPY.pool != Workspace("bank-triage-v2", COPY.folder.with_name("c"), "host").pool
    assert HERE.owns(HERE.tags) and not HERE.owns(COPY.tags)
    assert HERE.owns([]) and HERE.owns(["data:Bank_Triage v2"]), "a run by hand has no workspace"
