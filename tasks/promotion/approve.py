"""Promote, hold, approve, reject, roll back: the operations that can change the live version."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

from redistill.errors import ConfigError, RegistryError
from redistill.io.json import read_json
from redistill.params import Params
from redistill.promotion.cascade import Cascade
from redistill.promotion.system import system_digest
from redistill.provenance import mlflow_names
from redistill.runtime.identity import current_user, same_person
from redistill.serving.rollout import started
from redistill.serving.route_flag import to_version
from redistill.serving.types import Route
from tasks.promotion import waiting
from tasks.promotion.freeze import frozen
from tasks.promotion.live_system import live_cascade, promoted_by, promoted_cascade, verify_live
from tasks.promotion.present_teacher import present_teacher
from tasks.registry import evidence_bundle, transitions
from tasks.registry.artifact import downloaded
from tasks.registry.client import RegistryClient
from tasks.registry.history import History, alarmed, withdrawn
from tasks.registry.move_plan import Live
from tasks.registry.runs_and_versions import connect, resolved
from tasks.results.rows import deciding_identities


def promote(params: Params, version: str, reason: str, question: str | None = None) -> Live:
    """Make a version the champion, the old one ``previous``, and send traffic to it, once its bundle verifies. A second call changes nothing.

    Args:
        question: of the judgement that passed. If it is named, its bundle must be the newest one, so that nothing goes live but what was judged.

    Raises:
        RegistryError: the bundle or its signature is not valid, its verdict was hold, or the change failed; then nothing has changed.
    """
    client = _recovered_client(params)
    judged = _judgement(client, params, version, newest=True)
    if question is not None and judged["question"] != question:
        raise RegistryError(f"version {version} was judged again meanwhile, so nothing was promoted; run the cycle again")
    return _promoted(client, params, version, reason, judged)


def _promoted(client: RegistryClient, params: Params, version: str, reason: str, judged: dict[str, Any]) -> Live:
    if judged["decision"]["verdict"] != "promote":
        raise RegistryError(
            f"version {version} is on hold and cannot be promoted; `redistill gate {version}` shows why{_back(client, params, version)}"
        )
    before, cascade = transitions.live(client, params), promoted_cascade(judged)
    route = to_version(before.route, version, cascade, f"version {version} was promoted{_as(judged)}: {reason}", present_teacher())
    if (
        before.champion == version
        and transitions.decided(route)[:2] == transitions.decided(before.route)[:2]
        and route.cascade == before.route.cascade
    ):
        return before
    after = replace(
        before,
        champion=version,
        previous=before.champion if before.champion != version else before.previous,
        reference=before.reference or version,
        route=started(route, before.route, params.serve.rollout_steps),
    )
    transitions.move(client, params, "promote", version, f"{reason}{_as(judged)}", before, after, judged["judged_run"])
    return after


def _back(client: RegistryClient, params: Params, version: str) -> str:
    """What a person can do for a version that was live once, such as after an alarm of its traffic."""
    if version not in transitions.been_champion(transitions.history(client, params)):
        return ""
    return f"; `redistill rollback --to {version}` returns to it, on the evidence of its promotion"


def _as(judged: dict[str, Any]) -> str:
    """How a version answers, where it is not alone."""
    if promoted_cascade(judged) is None:
        return ""
    return f" (as a cascade: the student answers {100 * judged['answered'] / judged['rows']:.1f} % of the requests)"


def approve(params: Params, version_name: str, reason: str) -> Live:
    """Approve a challenger.

    Raises:
        ConfigError: no reason, or the approver started the cycle where ``promote.two_people`` is set.
        RegistryError: as ``promote``, or teacher, champion or held-out set have changed since the decision.
    """
    client = _recovered_client(params)
    version = _resolved_with_reason(client, params, version_name, reason)
    if (freeze := frozen(client, params)) is not None:
        raise RegistryError(freeze.sentence)
    events = transitions.history(client, params)
    if (problem := waiting.waits(events, version, params.promote.approval_days, dt.datetime.now(dt.UTC))) is not None:
        raise RegistryError(problem)
    judged = _judgement(client, params, version, newest=True)
    if params.promote.two_people:
        # The signed bundle says who started the cycle. The tag alone could be removed.
        trained = judged if judged["trained"] else _judgement(client, params, version)
        starters = {trained["judged_by"], client.get_model_version(params.data.name, version).tags.get(mlflow_names.TAG_STARTED_BY)}
        if any(same_person(current_user(), starter) for starter in starters):
            raise ConfigError(
                f"{current_user()} started the cycle of version {version}, so another person must approve it (promote.two_people)"
            )
    _still_true(client, params, version, judged)
    return _promoted(client, params, version, reason, judged)


def _judgement(client: RegistryClient, params: Params, version: str, *, newest: bool = False) -> dict[str, Any]:
    """The judgement in a version's verified bundle."""
    evidence = evidence_bundle.verified(client, params, version, newest=newest)
    run_id = evidence_bundle.run_of(client, params, version, newest=newest)
    return {**read_json(evidence / "judgement.json"), "trained": (evidence / "report").is_dir(), "judged_run": run_id}


def _still_true(client: RegistryClient, params: Params, version: str, judged: dict[str, Any]) -> None:
    """Raises if teacher, champion or held-out set changed since the decision."""
    teacher = read_json(deciding_identities("teacher", params.data))
    today = {"teacher": teacher["model_digest"], "held-out set": teacher["heldout_digest"]}
    now = transitions.live(client, params)
    for role in (mlflow_names.CHAMPION, mlflow_names.REFERENCE):
        live = now.aliases[role]
        if live != version:
            today[role] = "none" if live is None else _system(client, params, live, teacher["model_digest"])
    then = {"held-out set": judged["heldout"], **judged["models"]}
    for what, digest in today.items():
        if then.get(what, "none") != digest:
            raise RegistryError(
                f"version {version} was judged with another {what} ({then.get(what, 'none')[:12]}) than today's ({digest[:12]}); "
                f"judge it again with `redistill gate {version}`"
            )


def _system(client: RegistryClient, params: Params, version: str, teacher: str) -> str:
    """The digest of what answers where a version is live: its weights, and its threshold if it has one."""
    weights = client.get_model_version(params.data.name, version).tags[mlflow_names.TAG_MODEL_DIGEST]
    return system_digest(weights, live_cascade(transitions.history(client, params), version), teacher)


def blocked_by(params: Params, version: str, passed: bool, history: History, cascade: Cascade | None = None) -> str | None:
    """Why a passed candidate is not promoted automatically (approval pending, rejected before, or an alias changed from outside), or None."""
    if not passed:
        return None
    client = connect(params)
    events = history.events(client, params)
    if (reason := transitions.moved_outside(client, params, events)) is not None:
        return reason
    # A version that is champion with another threshold is another system, which a person may have to approve.
    if transitions.live(client, params).champion == version and live_cascade(events, version) == cascade:
        alarm = alarmed(events, version)
        return None if alarm is None else f"{alarm}; `redistill promote {version}` gives it its traffic back"
    if (reason := withdrawn(events, version)) is not None:
        return f"{reason}; `redistill promote {version}` makes it champion"
    if (freeze := frozen(client, params)) is not None:
        return freeze.sentence
    if params.promote.approval != "person":
        return None
    if (reason := waiting.waits(events, version, params.promote.approval_days, dt.datetime.now(dt.UTC))) is not None:
        waiting.expire(client, params, version, events, reason)
        return reason
    waiting.announce(client, params, version, events)
    return f"version {version} waits for a person's approval"


def reject(params: Params, version_name: str, reason: str) -> str:
    """Record a rejection. Nothing else changes."""
    client = _recovered_client(params)
    version = _resolved_with_reason(client, params, version_name, reason)
    transitions.record(client, params, "reject", version, reason, transitions.live(client, params))
    return version


def rollback(params: Params, to: str | None, reason: str) -> Live:
    """Return to ``previous``, or to any earlier champion whose bundle verifies. Champion and route change together.

    Raises:
        ConfigError: no reason.
        RegistryError: there is no earlier champion, its bundle does not verify, or the change failed; then nothing has changed.
    """
    client = _recovered_client(params)
    before = transitions.live(client, params)
    if to is None and before.previous is None:
        raise RegistryError(
            "there is no previous champion; name a version with --to, or pin the teacher with `redistill route set teacher --reason REASON`"
        )
    version = _resolved_with_reason(client, params, to or str(before.previous), reason)
    events = transitions.history(client, params)
    if version not in transitions.been_champion(events):
        raise RegistryError(
            f"version {version} was never champion, so rollback is not possible; to promote it, run `redistill promote {version}`"
        )
    cascade = verify_live(client, params, events, version, downloaded(client, params, version))
    after = replace(
        before,
        champion=version,
        previous=before.champion if before.champion != version else before.previous,
        route=to_version(before.route, version, cascade, f"rolled back to version {version}: {reason}", present_teacher()),
    )
    if (before.champion, before.route.model_version) != (version, version):
        transitions.move(client, params, "rollback", version, reason, before, after, promoted_by(events, version))
    return after


def set_reference(params: Params, version_name: str, reason: str) -> Live:
    """Make another version the reference. Default: the first promoted version."""
    client = _recovered_client(params)
    version = _resolved_with_reason(client, params, version_name, reason)
    events = transitions.history(client, params)
    if version not in transitions.been_champion(events):
        raise RegistryError(f"version {version} was never champion, so it cannot be the reference; choose a version that was")
    verify_live(client, params, events, version, downloaded(client, params, version))
    before = transitions.live(client, params)
    after = replace(before, reference=version)
    if before != after:
        transitions.move(client, params, "reference", version, reason, before, after)
    return after


def hold(params: Params, version: str, reason: str, route: Route) -> None:
    """Record a hold in the history."""
    client = connect(params)
    now = transitions.live(client, params)
    transitions.record(client, params, "hold", version, reason, replace(now, route=route))


def _resolved_with_reason(client: RegistryClient, params: Params, version_name: str, reason: str) -> str:
    if not reason.strip():
        raise ConfigError("give a reason with --reason; it is recorded in the history")
    return resolved(client, params, version_name)


def _recovered_client(params: Params) -> Any:
    """A registry client, after interrupted changes were completed or undone."""
    client = connect(params)
    transitions.recover(client, params)
    return client
