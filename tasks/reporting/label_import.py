"""``redistill labels import``: checks what people labelled, and adds it to a source, with who and when."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

from redistill.data.params import DataParams
from redistill.data.readers.files import described
from redistill.data.readers.jsonl import jsonl_rows
from redistill.data.types import Message, prompt_id
from redistill.errors import ConfigError, DataError
from redistill.io.atomic import replacing
from redistill.io.json import json_lines
from redistill.params import Params
from redistill.runtime.identity import current_user


def import_labels(params: Params, labelled: Path, into: Path, by: str | None = None) -> dict[str, Any]:
    """Add labelled rows to a JSONL source, or replace the label of a row that is there. Rows without a label are left out.

    Every problem is reported at once, and then nothing is written.

    Raises:
        ConfigError: ``into`` is not a JSONL source of this project.
        DataError: a row that is not one of an export, or whose label breaks the grammar.
    """
    source = next((s for s in params.data.files if Path(s.path) == into), None)
    if source is None or into.suffix.lower() != ".jsonl":
        known = ", ".join(s.path for s in params.data.files if s.path.endswith(".jsonl"))
        sources = (
            f"the JSONL sources are {known}"
            if known
            else "add one to data.source, such as {path: data/labelled.jsonl, splits: {heldout: 1.0}}"
        )
        raise ConfigError(f"{into} is not a JSONL file of data.source; labels are added to such files only: {sources}")
    rows = [row for _, row in jsonl_rows(str(into), into)] if into.is_file() else []
    at = {_identity(row, params.data): i for i, row in enumerate(rows)}
    now, user = dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), " ".join((by or "").split()) or current_user()
    problems, added, changed, empty, same = [], 0, 0, 0, 0
    seen: dict[str, str] = {}
    for where, row in jsonl_rows(str(labelled), labelled):
        try:
            identity, label = _checked(row, params.data)
        except DataError as error:
            problems.append(f"{where}: {error}")
            continue
        if label is None:
            empty += 1
        elif seen.setdefault(identity, where) != where:
            problems.append(f"{where}: the same message as in {seen[identity]}; keep one of the two")
        elif (i := at.get(identity)) is None:
            rows.append(_new(row, label, params.data, user, now))
            added += 1
        elif rows[i].get(params.data.columns.label) == label:
            same += 1
        else:
            rows[i] = {**rows[i], params.data.columns.label: label, "labelled_by": user, "labelled_at": now}
            changed += 1
    if problems:
        raise DataError(f"{labelled}: {len(problems)} problem{'s' * (len(problems) > 1)}, so nothing was added: " + " | ".join(problems))
    if added or changed:
        with replacing(into) as temporary:
            temporary.write_text(json_lines(rows), encoding="utf-8")
    return {
        "file": str(into),
        "added": added,
        "changed": changed,
        "same": same,
        "without_label": empty,
        "splits": source.splits,
        "by": user,
    }


def _identity(row: dict[str, Any], data: DataParams) -> str:
    text = row.get(data.columns.text)
    return prompt_id((Message("user", text),)) if isinstance(text, str) else ""


def _checked(row: dict[str, Any], data: DataParams) -> tuple[str, str | None]:
    """The row's prompt id, and its label in the spelling of the grammar; None if it has none yet."""
    text, label = row.get("text"), row.get("label")
    if not isinstance(text, str) or not isinstance(row.get("prompt_id"), str):
        raise DataError("not a row of `redistill labels export`: it has no text or no prompt_id")
    identity = prompt_id((Message("user", text),))
    if identity != row["prompt_id"]:
        raise DataError("its text was changed after the export; only the label may be filled in")
    if label is None or (isinstance(label, str) and not label.strip()):
        return identity, None
    if data.task == "json" and isinstance(label, dict | list):
        label = json.dumps(label, ensure_ascii=False)
    if not isinstance(label, str):
        raise DataError(f"its label is {described(label)}, not text")
    return identity, label.strip() if data.grammar is None else data.grammar.label(label.strip(), text)


def _new(row: dict[str, Any], label: str, data: DataParams, user: str, now: str) -> dict[str, Any]:
    """A row as its source has them. Ids are unique over all sources, so it does not keep that of the pool."""
    columns = data.columns
    return {
        **({columns.id: f"labelled-{row['prompt_id'][:12]}"} if columns.id else {}),
        columns.text: row["text"],
        **({columns.slice: row.get("slice", "all")} if columns.slice else {}),
        columns.label: label,
        "labelled_by": user,
        "labelled_at": now,
    }
