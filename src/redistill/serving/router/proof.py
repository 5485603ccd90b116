"""Does the student's server serve the version that the flag trusts? It must list its name, and complete some known prompts as the registered version did.

A name can be wrong: somebody restarts a server with other weights under it. Two trainings of the same student write many equal completions, so the scores are
compared too: they differ between engines by less than the band of a threshold, and between weights by much more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from redistill.data.normal_form import normalised
from redistill.data.params import DataParams
from redistill.data.stopping import cut
from redistill.evaluation.confidence.all_scores import confidences
from redistill.evaluation.outcomes import without_reasoning
from redistill.promotion.cascade import Cascade, Engine
from redistill.promotion.thresholds.bands import BANDS
from redistill.serving.number_format import listed_format
from redistill.serving.router.replies import read_completion
from redistill.serving.router.shown import Shown
from redistill.serving.router.types import Asked, Completion, Limit, UpstreamError
from redistill.serving.router.upstream import Upstream
from redistill.serving.types import KnownCompletion, ServedVersion

_SAME = 0.75
"""The share of known prompts that must be completed as before. Near ties are decided otherwise by another engine."""
_SCORE = "sum_logprob"


@dataclass(frozen=True, slots=True)
class Proof:
    """``problem`` says why the version gets no traffic; empty where it does. ``engine`` is what computes there, as far as the server says.

    ``place`` is the server that has the version, ``lost`` how many connections it had lost before.
    """

    problem: str
    engine: Engine | None = None
    place: str = "student"
    lost: int = 0


async def listed(upstream: Upstream, version: ServedVersion) -> Proof:
    """Whether the server lists the version."""
    if (models := await _models(upstream)) is None:
        return Proof("the student's server does not list its models")
    ids = [str(model.get("id")) for model in models]
    entry = next((model for model in models if model.get("id") == version.name), None)
    if entry is None:
        names = ", ".join(repr(name[:60]) for name in ids[:3]) or "nothing"
        return Proof(f"the student's server lists {names}, and not {version.name}")
    return Proof("", await _engine(upstream, str(entry.get("owned_by", "")), listed_format(version.name, ids) or upstream.dtype))


async def lists(upstream: Upstream, name: str) -> bool:
    """Whether a server lists a model."""
    return any(model.get("id") == name for model in await _models(upstream) or ())


async def _models(upstream: Upstream) -> list[dict[str, Any]] | None:
    """What a server lists; None where it lists nothing in OpenAI's form."""
    tree = await upstream.get("/models")
    models = tree.get("data") if isinstance(tree, dict) else None
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else None


async def proved(upstream: Upstream, shown: Shown, version: ServedVersion, cascade: Cascade | None, data: DataParams) -> Proof:
    """Whether the server lists the version, and completes known prompts as it did."""
    proof = await listed(upstream, version)
    if proof.problem:
        return proof
    if not version.known:
        return Proof("no known completion of this version is on this machine; get its prompts with `dvc pull`")
    same, last = 0, ""
    for known in version.known:
        try:
            completion = await _completed(upstream, shown, known, data)
        except UpstreamError as error:
            # Not what the server says, which may repeat the prompt.
            return Proof(f"the student's server does not complete a known prompt ({error.kind})")
        difference = _difference(completion, known, cascade, data)
        same, last = same + (not difference), difference or last
    if same < _SAME * len(version.known):
        return Proof(f"the student's server completes {same} of {len(version.known)} known prompts as {version.name} did; {last}")
    return proof


async def proved_somewhere(
    servers: Mapping[str, Upstream], shown: Shown, version: ServedVersion, cascade: Cascade | None, data: DataParams
) -> Proof:
    """As ``proved``, at the first of the servers that lists the version."""
    problems = []
    for place, upstream in servers.items():
        lost, proof = upstream.lost, await listed(upstream, version)
        if not proof.problem:
            return replace(await proved(upstream, shown, version, cascade, data), place=place, lost=lost)
        problems.append(proof.problem)
    return Proof("; ".join(dict.fromkeys(problems)))


async def still_listed(upstream: Upstream, version: ServedVersion, before: Proof) -> Proof:
    """Whether the server that proved the version lists it now."""
    return replace(await listed(upstream, version), place=before.place, lost=before.lost)


async def _completed(upstream: Upstream, shown: Shown, known: KnownCompletion, data: DataParams) -> Completion:
    asked = Asked("completions", {}, known.prompt)
    return await upstream.whole(shown.path(asked), shown.body(asked, stream=False, scored=True), Limit(30.0), read_completion)


def _difference(completion: Completion, known: KnownCompletion, cascade: Cascade | None, data: DataParams) -> str:
    """What differs from the known completion, never its text; empty if nothing does."""
    text = cut(without_reasoning(completion.text), data.stops)
    grammar = data.grammar
    spelled = text if grammar is None else grammar.spelled(text)
    if normalised(spelled) != normalised(known.text):
        return "a completion has another text"
    name = _SCORE if cascade is None else cascade.score
    band = BANDS.get(name, 0.0) if cascade is None else cascade.band
    was = {c.score: c.value for c in known.confidences}.get(name)
    now = {c.score: c.value for c in confidences(completion.trace, grammar)}.get(name)
    if was is None or now is None:
        return ""
    # Not a number is a difference too.
    return "" if abs(now - was) <= band else f"{name} of a completion is {now:.3f} and was {was:.3f}, more than {band:g} apart"


async def _engine(upstream: Upstream, owner: str, dtype: str) -> Engine | None:
    """What the server says that it runs; vLLM does."""
    if owner != "vllm":
        return None
    tree: Any = await upstream.get("/version", of_server=True)
    version = tree.get("version") if isinstance(tree, dict) else None
    return None if not isinstance(version, str) else Engine("vllm", version.partition("+")[0], dtype)
