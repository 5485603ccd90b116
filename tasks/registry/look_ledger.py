"""The ledger of looks in MLflow: one run per entry, in a separate experiment, and the digest of the last entry as a tag of the registered model."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redistill.errors import RegistryError
from redistill.io.digests import canonical_digest
from redistill.io.json import read_json, write_json
from redistill.params import Params
from redistill.promotion.alpha_spending import (
    Earlier,
    budget,
    entry_digest,
    ids_digest,
    left_after_retest,
    left_of,
    retest_known,
    retest_question,
)
from redistill.promotion.params import PromoteParams
from redistill.promotion.types import Finding, Look
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user
from tasks.paths import STATE
from tasks.registry import signed_entries
from tasks.registry.client import RegistryClient
from tasks.registry.ledger_checks import KIND, Entry, checked_looks, foreign_looks, look_of, remember
from tasks.registry.runs_and_versions import searched_runs

_IDS = "prompt-ids.json"
_COPIES = STATE / "heldout-ids"


@dataclass(frozen=True, slots=True)
class UsedSet:
    """Another held-out set that has rows of the present one, with the looks at it."""

    looks: tuple[Look, ...]
    ids: frozenset[str]

    def earlier(self, promote: PromoteParams) -> Earlier:
        return Earlier(self.ids, left_of(self.looks, promote))


@dataclass(frozen=True, slots=True)
class History:
    """What was asked on one held-out set, and on every other set that shares rows with it."""

    heldout: str
    """Digest of the set."""
    looks: list[Look]
    """On exactly this set, in order."""
    others: list[UsedSet]
    ids: list[str]
    foreign: frozenset[str] = frozenset()
    """Digests of looks that other keys signed: they count, but what they say was learned is not believed."""
    pins: str = ""
    """Digest of the looks at this set, where none of them has a signature yet."""

    @classmethod
    def of(cls, client: RegistryClient, params: Params, heldout: str, ids: list[str]) -> History:
        """The history of the set with this digest and these prompts, of all data names on this MLflow server: renaming the data gives nothing back.

        A set that shares no row is not read further, so a broken ledger of another project stops no decision here.

        Raises:
            RegistryError: the chain of a set that counts is broken, or its list of prompts is missing.
        """
        recorded, rows = _recorded(client), set(ids)
        # Also without an entry: a head without entries says that somebody deleted them.
        names = {params.data.name, *(name for name, _ in recorded.get(heldout, ()))}
        present = recorded.pop(heldout, [])
        looks, foreign = checked_looks(client, params, names, heldout, present), foreign_looks(present)
        others = []
        for other, entries in recorded.items():
            there = _ids(other, entries, own=any(name == params.data.name for name, _ in entries))
            if there is not None and rows & there:
                others.append(UsedSet(tuple(checked_looks(client, params, {name for name, _ in entries}, other, entries)), there))
                foreign |= foreign_looks(entries)
        unsigned = [run.data.tags[mlflow_names.TAG_LOOK] for _, run in present if mlflow_names.TAG_SIGNATURE not in run.data.tags]
        pins = signed_entries.pin(unsigned) if len(unsigned) == len(present) else ""
        return cls(heldout, looks, others, ids, foreign, pins)

    def left(self, promote: PromoteParams) -> float:
        """What is left of alpha on this set."""
        return budget(self.looks, self.ids, [each.earlier(promote) for each in self.others], promote)

    @property
    def related(self) -> list[Look]:
        """The looks at this set, and at others that have most of its rows."""
        rows = set(self.ids)
        alike = [each for each in self.others if 2 * len(rows & each.ids) > len(rows)]
        return self._believed([*self.looks, *(look for each in alike for look in each.looks)])

    @property
    def known(self) -> list[Look]:
        """The looks at this set whose answers may be told again."""
        return self._believed(self.looks)

    def _believed(self, looks: Sequence[Look]) -> list[Look]:
        return [look for look in looks if entry_digest(look) not in self.foreign]


def _recorded(client: RegistryClient) -> dict[str, list[Entry]]:
    """The runs of all looks, by the digest of their held-out set."""
    before, after = mlflow_names.looks_experiment("\0").split("\0")
    runs: dict[str, list[Entry]] = defaultdict(list)
    for experiment in client.search_experiments(filter_string=f"name LIKE '{before}%{after}'"):
        name = experiment.name[len(before) : -len(after)]
        for run in searched_runs(client, experiment.experiment_id, f"tags.`{mlflow_names.TAG_KIND}` = 'look'"):
            runs[run.data.tags[mlflow_names.TAG_HELDOUT]].append((name, run))
    return runs


def _ids(heldout: str, entries: list[Entry], *, own: bool) -> frozenset[str] | None:
    """The prompts of a set, from a local copy or from the run of one of its looks; None for a set that only an earlier version of redistill used.

    Raises:
        RegistryError: the list is missing or was changed, and the set is of this project.
    """
    import mlflow

    digest = next((look.ids for _, run in entries if (look := look_of(run)).ids), None)
    if digest is None:
        return None
    copy = _COPIES / f"{heldout}.json"
    if copy.is_file() and ids_digest(ids := read_json(copy)) == digest:
        return frozenset(ids)
    for _, run in entries:
        try:
            ids = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/{_IDS}"))
        except (mlflow.MlflowException, OSError, ValueError):
            continue
        if ids_digest(ids) == digest:
            write_json(copy, ids)
            return frozenset(ids)
    if not own:
        return None
    raise RegistryError(
        f"the list of prompts of held-out set {heldout[:12]} is missing or was changed, so what was spent on them is unknown; "
        "restore MLflow from a backup, or use another name for data and a new held-out set"
    )


def record_retest(client: RegistryClient, params: Params, history: History, champion: str, teacher: str, result: Finding) -> Finding:
    """Record what people learn from a re-test of the champion, and return what they may be told.

    On almost the same rows, the result of the last such test is told again, so that a few new rows a night cost nothing.

    Args:
        history: of the held-out set on which it was tested.
        champion: digest of the live system.
        teacher: digest of the teacher that it was compared with.
    """
    question = retest_question(champion, teacher, params.promote)
    if (known := retest_known(history.related, question, len(history.ids))) is not None:
        return known
    left = left_after_retest(history.left(params.promote), result)
    entry = _entry(history, params, "retest", question, left)
    append(client, params, dataclasses.replace(entry, candidate=champion, question=question, finding=result), history)
    return result


def record_retirement(client: RegistryClient, params: Params, history: History) -> None:
    """Record that people may see the results on a set. After that it decides nothing, and another set with some of its rows starts with less."""
    if not history.looks or history.looks[-1].kind != "retired":
        append(client, params, _entry(history, params, "retired", "retired", 0.0), history)


def _entry(history: History, params: Params, kind: Literal["retest", "retired"], question: str, left: float) -> Look:
    """An entry that promotes nothing."""
    return Look(
        heldout=history.heldout,
        number=len(history.looks) + 1,
        key=canonical_digest([question, history.heldout]),
        candidate="",
        spent=0.0,
        level=0.0,
        shown=False,
        verdict="hold",
        at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        by=current_user(),
        previous=entry_digest(history.looks[-1]) if history.looks else "",
        left=left,
        kind=kind,
        n=len(history.ids),
        had=history.left(params.promote),
    )


def append(client: RegistryClient, params: Params, look: Look, history: History) -> None:
    """Sign an entry and append it with the prompts of its set, then write its digest to the tag of the registered model. A decision is published only after both."""
    name = mlflow_names.looks_experiment(params.data.name)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name, mlflow_names.artifact_root(STATE))
    look = dataclasses.replace(look, ids=ids_digest(history.ids), pins=history.pins)
    if history.pins:
        signed_entries.say_once(
            f"ledger of looks: entries are signed from now on; the first signed one pins the {len(history.looks)} entries before it on this held-out set"
        )
    text = json.dumps(dataclasses.asdict(look))
    signature = signed_entries.signature_of(text, KIND, params.data.name)
    tags = {mlflow_names.TAG_HELDOUT: look.heldout, mlflow_names.TAG_SIGNATURE: signature}
    run = client.create_run(experiment_id, tags=tags, run_name=f"look-{look.number}-{look.heldout[:8]}")
    client.log_text(run.info.run_id, json.dumps(sorted(history.ids)), _IDS)
    # The entry exists from this tag on, so it is never without its prompts.
    client.set_tag(run.info.run_id, mlflow_names.TAG_LOOK, text)
    client.set_tag(run.info.run_id, mlflow_names.TAG_KIND, "look")
    client.set_terminated(run.info.run_id, "FINISHED")
    client.set_registered_model_tag(params.data.name, mlflow_names.looks_head(look.heldout), entry_digest(look))
    remember(look)
