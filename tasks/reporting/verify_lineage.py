"""``redistill lineage``: the chain from a version to every input. Each link is compared with the files on disk."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from redistill.data.traffic.snapshots import check_snapshot
from redistill.distillation.student_base import base_of
from redistill.errors import RedistillError
from redistill.io.digests import canonical_digest, file_digest, tree_digest
from redistill.io.json import read_json
from redistill.params import Params, load_params
from redistill.provenance import dvc_lock, mlflow_names
from redistill.provenance.code_identity import folders, syntax_digest
from redistill.version import __version__
from tasks.paths import CODE, LOCKED_FROM
from tasks.registry import evidence_bundle
from tasks.registry.artifact import downloaded, weights_of
from tasks.registry.client import RegistryClient
from tasks.registry.forgotten_objects import removed_objects
from tasks.registry.runs_and_versions import connect, resolved

State = Literal["ok", "missing", "changed"]


@dataclass(frozen=True, slots=True)
class Link:
    """One link: its name, the recorded digest, and whether the file here has that digest."""

    part: str
    what: str
    digest: str
    state: State
    note: str = ""


def chain(params: Params, version_name: str) -> tuple[str, list[Link]]:
    """All links of a version, the version first; one that is not ok breaks the chain.

    Raises:
        RegistryError: no such version.
    """
    client = connect(params)
    version = resolved(client, params, version_name)
    tags = client.get_model_version(params.data.name, version).tags
    links = [_weights(client, params, version, tags)]
    try:
        evidence = evidence_bundle.verified(client, params, version)
    except RedistillError as error:
        return version, [*links, Link("version", "signed evidence", tags.get(mlflow_names.TAG_EVIDENCE, "none"), "changed", str(error))]
    links.append(
        Link("version", "signed evidence", tags[mlflow_names.TAG_EVIDENCE], _state(tree_digest(evidence), tags[mlflow_names.TAG_EVIDENCE]))
    )
    if not (evidence / "report" / "report.json").is_file():
        return version, [*links, Link("version", "training", "none", "ok", "not trained by this project: the chain ends at its evidence")]
    removed = removed_objects()
    return version, [_explained(link, removed) for link in (*links, *_made_from(client, params, version, evidence))]


def _explained(link: Link, removed: dict[str, str]) -> Link:
    """A file that is gone or changed because a person had a prompt removed from it breaks no chain; the link says so."""
    if link.state == "ok" or link.digest not in removed:
        return link
    return replace(
        link,
        state="ok",
        note=f"a prompt was removed from it on {removed[link.digest][:10]} (redistill forget), so its content cannot be checked",
    )


def _weights(client: RegistryClient, params: Params, version: str, tags: dict[str, str]) -> Link:
    digest = tags.get(mlflow_names.TAG_MODEL_DIGEST, "none")
    try:
        return Link(
            "version",
            f"weights of version {version}",
            digest,
            _state(tree_digest(downloaded(client, params, version).weights), digest),
        )
    except RedistillError as error:
        return Link("version", f"weights of version {version}", digest, "missing", str(error))


def _made_from(client: RegistryClient, params: Params, version: str, evidence: Path) -> list[Link]:
    then = load_params(evidence / "params.yaml")
    arm = read_json(evidence / "judgement.json").get("arm", then.promote.arm)
    stages = dvc_lock.read(evidence / "dvc.lock")
    trained = next(out for out in stages[f"finetune@{arm}"].outs if out.path == f"artifacts/students/{arm}")
    weights = dvc_lock.md5_of(weights_of(client, params, version))
    measured = next(iter(stages[f"benchmark@{arm}"].outs))
    links = [
        Link(f"finetune@{arm}", "the registered weights are what this stage made", trained.md5, _state(weights, trained.md5)),
        Link(
            f"benchmark@{arm}",
            "the signed outcomes are what this stage measured",
            measured.md5,
            _state(dvc_lock.md5_of(evidence / "benchmark" / arm), measured.md5),
        ),
    ]
    if (calibrated := stages.get(f"calibrate@{arm}")) is not None and (evidence / "calibration").is_dir():
        threshold = next(iter(calibrated.outs))
        signed = _state(dvc_lock.md5_of(evidence / "calibration" / arm), threshold.md5)
        links.append(Link(f"calibrate@{arm}", "the signed threshold is what this stage chose", threshold.md5, signed))
    for who in ("teacher", arm):
        if (sealed := stages.get(f"heldout@{who}")) is not None and (folder := evidence / "heldout" / who).is_dir():
            out = next(iter(sealed.outs))
            links.append(
                Link(
                    f"heldout@{who}",
                    "the signed sealed results are what this stage measured",
                    out.md5,
                    _state(dvc_lock.md5_of(folder), out.md5),
                )
            )
    report = read_json(evidence / "report" / "report.json")
    commit = report["lineage"]["git_commit"]
    made: set[str] = set()
    outs = {out.path: out.md5 for stage in stages.values() for out in stage.outs}
    for stage in reversed(dvc_lock.ancestors(stages, f"finetune@{arm}", LOCKED_FROM)):
        links += [_data(stage.name, out) for out in stage.outs if not out.path.endswith((".json", ".jsonl"))]
        for dep in stage.deps:
            if outs.get(dep.path, dep.md5) != dep.md5:
                links.append(Link(stage.name, dep.path, dep.md5, "changed", f"but the stage that writes it wrote {outs[dep.path][:12]}"))
            if dep.path.endswith(".py") and dep.path not in made:
                made.add(dep.path)
                links.append(_code(stage.name, dep, commit))
    links += _locked_code(evidence, dvc_lock.ancestors(stages, f"finetune@{arm}", LOCKED_FROM), commit)
    return [*links, *input_links(evidence, then)]


def _data(stage: str, out: dvc_lock.Tracked) -> Link:
    """What a stage made: on disk as it was, or in DVC's cache."""
    if dvc_lock.md5_of(Path(out.path)) == out.md5:
        return Link(stage, out.path, out.md5, "ok")
    kept = dvc_lock.cached(Path(os.environ.get("DVC_CACHE_DIR", ".dvc/cache")), out.md5)
    if kept:
        return Link(stage, out.path, out.md5, "ok", "in DVC's cache; the file on disk is another one")
    note = "its content in DVC's cache has changed" if kept is False else "neither on disk nor in DVC's cache; `dvc pull` may bring it"
    return Link(stage, out.path, out.md5, "changed" if kept is False else "missing", note)


def _code(stage: str, dep: dvc_lock.Tracked, commit: str) -> Link:
    """Code, as git has it at the commit of the cycle, or as it stands on disk where there is no git."""
    done = subprocess.run(["git", "show", f"{commit}:./{dep.path}"], capture_output=True, check=False)
    if done.returncode == 0 and hashlib.md5(done.stdout).hexdigest() == dep.md5:  # noqa: S324 - DVC's choice
        return Link(stage, dep.path, dep.md5, "ok")
    if dvc_lock.md5_of(Path(dep.path)) == dep.md5:
        return Link(stage, dep.path, dep.md5, "ok", "as on disk; git has another version of it" if done.returncode == 0 else "as on disk")
    state: State = "changed" if done.returncode == 0 or Path(dep.path).is_file() else "missing"
    return Link(stage, dep.path, dep.md5, state, f"neither commit {commit[:12]} nor the disk has this version of it")


def _locked_code(evidence: Path, stages: list[dvc_lock.LockedStage], commit: str) -> Iterator[Link]:
    """Code of the stages as ``code.lock.json`` of the bundle names it: that DVC ran them on it, and each file of it."""
    file = evidence / CODE
    if not file.is_file():
        return  # a bundle from before there was this lock lists code among the stages' deps
    lock = read_json(file)
    ran = {stage.name: stage.values.get(str(CODE), {}).get(f"stages.{stage.name.partition('@')[0]}") for stage in stages}
    for name, entry in ran.items():
        named = lock["stages"].get(name.partition("@")[0])
        if entry is None:
            continue
        versions = ", ".join(f"{package} {version}" for package, version in entry["packages"].items())
        files = {f: facts["digest"] for f, facts in lock["files"].items() if name.partition("@")[0] in facts["stages"]}
        whole = named == entry and canonical_digest(files) == entry["digest"]
        yield Link(
            name, "its code", entry["digest"], "ok" if whole else "changed", versions if whole else f"{CODE} of the bundle names other code"
        )
    used = {name.partition("@")[0] for name, entry in ran.items() if entry is not None}
    for path, facts in lock["files"].items():
        if used & set(facts["stages"]):
            yield _code_file(path, facts["digest"], commit, lock["redistill"])


def _code_file(path: str, digest: str, commit: str, version: str) -> Link:
    """A file of ours, as git has it at the commit of the cycle, or as it is on disk."""
    part, _, inside = path.partition("/")
    here = folders(part).get(part, Path(part)) / inside
    with contextlib.suppress(ValueError, SyntaxError):
        name = here.resolve().relative_to(Path.cwd().resolve()).as_posix()
        done = subprocess.run(["git", "show", f"{commit}:./{name}"], capture_output=True, check=False)
        if done.returncode == 0 and syntax_digest(done.stdout) == digest:
            return Link("code", path, digest, "ok")
    with contextlib.suppress(OSError, SyntaxError):
        if syntax_digest(here.read_bytes()) == digest:
            return Link("code", path, digest, "ok", "as on disk")
    if version != __version__ and not here.resolve().is_relative_to(Path.cwd().resolve()):
        return Link(
            "code", path, digest, "ok", f"signed, but not checked: it came with redistill {version}, and {__version__} is installed"
        )
    return Link(
        "code", path, digest, "missing", f"this version of the file is not here; it belongs to redistill {version}, commit {commit[:12]}"
    )


def input_links(evidence: Path, then: Params) -> list[Link]:
    """External inputs: source files, the raw models, reviewed terms."""
    from redistill.models import weights_source

    locked = read_json(evidence / "sources.lock.json")
    links = []
    for source in (*locked["sources"], *locked.get("probes", ())):
        file, digest = Path(source["path"]), source["sha256"]
        if "traffic" in source:
            links.append(_snapshot(file, source["traffic"]))
        elif file.is_file():
            links.append(Link("sources", source["path"], digest, _state(file_digest(file), digest)))
        elif source.get("revision"):
            links.append(Link("sources", source["path"], source["revision"], "ok", "a hub revision; not downloaded again"))
        else:
            links.append(Link("sources", source["path"], digest, "missing", "the file is gone"))
    models = (("teacher", then.teacher.model, then.teacher.revision), ("student", *base_of(then.student, then.teacher)))
    for role, model, revision in models:
        digest = locked["models"][role]["digest"]
        if role == "teacher" and then.teacher.backend == "openai":
            links.append(Link("models", f"teacher {model}", digest, "ok", "an endpoint: only the name that it reports is known"))
            continue
        try:
            links.append(Link("models", f"raw {role} {model}", digest, _state(weights_source.source_digest(model, revision), digest)))
        except RedistillError as error:
            links.append(Link("models", f"raw {role} {model}", digest, "missing", str(error)))
    for review in then.governance.licenses:
        file = Path(review.terms)
        state: State = _state(file_digest(file), review.terms_sha256) if file.is_file() else "missing"
        links.append(Link("licences", review.terms, review.terms_sha256, state, f"reviewed by {review.reviewer} on {review.reviewed}"))
    return links


def _snapshot(file: Path, source: str) -> Link:
    """Rows that were forgotten are not there any more, and the digest of the snapshot still holds."""
    checked = check_snapshot(file)
    if not file.is_file():
        return Link("sources", source, file.stem, "missing", "the snapshot is gone")
    note = checked.problem or (f"{checked.forgotten:,} of its rows were removed since" if checked.forgotten else "")
    return Link("sources", source, file.stem, "changed" if checked.problem else "ok", note)


def _state(actual: str | None, recorded: str) -> State:
    return "missing" if actual is None else "ok" if actual == recorded else "changed"
