"""The twelve rules of correct distillation. Each rule is one measurement with a limit.

References are computed here, in float64 and by autograd, from the definition of the divergence that an implementation minimises.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from redistill.conformance.protocol import Finding, Implementation, NotApplicable, Problem

_V = 11
_NEAR = 1e-4
"""Relative error that the precision of float32 can cause."""


def problem(rows: int = 3, length: int = 7, seed: int = 0, extra: int = 0) -> Problem:
    """Random logits and a mask in which prompts and completions have different lengths in each row."""
    g = torch.Generator().manual_seed(seed)
    supervised = torch.zeros((rows, length), dtype=torch.bool)
    for row in range(rows):
        start = 1 + row % 3
        supervised[row, start : start + 1 + (2 * row) % (length - 2)] = True
    student = (2.0 * torch.randn(rows, length, _V, generator=g)).requires_grad_()
    teacher = 2.0 * torch.randn(rows, length, _V + extra, generator=g)
    return Problem(torch.randint(_V, (rows, length), generator=g), supervised, student, teacher)


def reference(implementation: Implementation, batch: Problem, temperature: float = 1.0) -> tuple[float, torch.Tensor]:
    """Σ T² D over the targets, and its gradient by the student's logits."""
    student = batch.student_BLV.detach().double().requires_grad_()
    chosen = batch.supervised_BL[:, 1:]
    p = batch.teacher_BLW.double()[:, :-1, :_V][chosen] / temperature
    value = temperature**2 * implementation.divergence(p, student[:, :-1][chosen] / temperature).sum()
    (grad,) = torch.autograd.grad(value, student)
    return float(value.detach()), grad


def measured(
    implementation: Implementation, batch: Problem, temperature: float = 1.0, count: int | None = None
) -> tuple[float, torch.Tensor]:
    value = implementation.loss(batch, temperature, batch.count if count is None else count)
    (grad,) = torch.autograd.grad(value, batch.student_BLV, allow_unused=True)
    return float(value.detach()), torch.zeros_like(batch.student_BLV) if grad is None else grad


def _error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference, relative to the largest expected value."""
    return float((got.double() - expected.double()).abs().max() / expected.double().abs().max().clamp_min(1e-30))


def _finding(error: float, why: str, limit: float = _NEAR) -> Finding:
    return Finding("pass" if error <= limit else "fail", error, why)


def shift(implementation: Implementation) -> Finding:
    """1. The logits of position t learn token t + 1, and the mask moves with them."""
    batch = problem()
    _, grad = measured(implementation, batch)
    _, expected = reference(implementation, batch)
    # Direction only: another rule checks how the sum is normalised.
    error = _error(grad / grad.norm().clamp_min(1e-30), expected / expected.norm())
    return _finding(error, "gradient of the logits against that of the reference, both scaled to length 1")


def normalise_once(implementation: Implementation) -> Finding:
    """2. Four micro-batches of two are one batch of eight."""
    batch = problem(rows=8)
    _, whole = measured(implementation, batch)
    parts = [batch.rows(slice(i, i + 2)) for i in range(0, 8, 2)]
    scale = 1.0 if implementation.takes_count else 1.0 / len(parts)
    summed = torch.cat([scale * measured(implementation, part, count=batch.count)[1] for part in parts])
    return _finding(_error(summed, whole), "gradients of 4 × 2 rows against 1 × 8, relative")


def temperature_squared(implementation: Implementation) -> Finding:
    """3. T² multiplies value and gradient, so that a temperature does not change the divergence's weight against the text's loss."""
    if not implementation.text_loss:
        raise NotApplicable("it adds no text loss to its divergence, so T² would only rescale the loss")
    batch, worst = problem(), 0.0
    base, one = measured(implementation, batch), reference(implementation, batch)
    for temperature in (2.0, 4.0):
        (value, grad), (expected, expected_grad) = (
            measured(implementation, batch, temperature),
            reference(implementation, batch, temperature),
        )
        worst = max(worst, abs(value / base[0] * one[0] / expected - 1.0))
        worst = max(worst, float(abs(grad.norm() / base[1].norm() * one[1].norm() / expected_grad.norm() - 1.0)))
    return _finding(worst, "value and gradient at T = 2 and 4, each to that at T = 1, against the reference's ratio")


def report_kl(implementation: Implementation) -> Finding:
    """4. The value is a divergence: 0 if student and teacher are equal, whatever the teacher's entropy is."""
    batch = problem()
    equal = Problem(batch.ids_BL, batch.supervised_BL, batch.teacher_BLW.clone().requires_grad_(), batch.teacher_BLW)
    value, grad = measured(implementation, equal)
    return _finding(max(abs(value), float(grad.abs().max())), "value and gradient, in nats, for a student that is equal to its teacher")


def chunked(implementation: Implementation) -> Finding:
    """5. Any chunk size, any number of tokens, odd ones included: the same loss and gradients."""
    g, worst = torch.Generator().manual_seed(1), 0.0
    for n in (1, 2, 3, 7, 16, 33):
        hidden, head = torch.randn(n, 5, generator=g).requires_grad_(), torch.randn(_V, 5, generator=g).requires_grad_()
        teacher = torch.randn(n, _V, generator=g)
        student = (hidden.detach().double() @ head.detach().double().T).requires_grad_()
        (by_logits,) = torch.autograd.grad(implementation.divergence(teacher.double(), student).sum(), student)
        expected = (by_logits @ head.detach().double(), by_logits.T @ hidden.detach().double())
        for chunk in (1, 2, 5, 64):
            got = torch.autograd.grad(implementation.chunked(hidden, head, teacher, chunk), (hidden, head))
            worst = max(worst, *(_error(a, b) for a, b in zip(got, expected, strict=True)))
    return _finding(worst, "gradients of hidden states and head against the unchunked reference, 1 to 33 tokens in chunks of 1 to 64")


def empty_mask(implementation: Implementation) -> Finding:
    """6. Without targets, the loss is 0 and can still be back-propagated."""
    batch = problem()
    nothing = Problem(batch.ids_BL, torch.zeros_like(batch.supervised_BL), batch.student_BLV, batch.teacher_BLW)
    value = implementation.loss(nothing, 1.0, 5 if implementation.takes_count else None)
    if not value.requires_grad:
        return Finding("fail", None, "the loss of an empty mask is not connected to the graph")
    (grad,) = torch.autograd.grad(value, batch.student_BLV, allow_unused=True)
    error = max(abs(float(value.detach())), 0.0 if grad is None else float(grad.abs().max()))
    return _finding(error if math.isfinite(error) else math.inf, "value and gradient without targets")


def vocabulary(implementation: Implementation) -> Finding:
    """7. Padding of the head is cut off and the rest renormalised; tokenizers that differ by one id are refused."""
    batch = problem(extra=5)
    try:
        _, grad = measured(implementation, batch)
    except (ValueError, RuntimeError, IndexError) as error:
        padded = Finding("pass", None, f"heads of different width are refused ({type(error).__name__})")
    else:
        narrow = Problem(batch.ids_BL, batch.supervised_BL, batch.student_BLV, batch.teacher_BLW[..., :_V])
        padded = _finding(
            _error(grad, measured(implementation, narrow)[1]),
            "gradient with five rows of padding in the teacher's head against the gradient without them",
        )
    if padded.outcome == "fail":
        return padded
    one = {"<s>": 0, "a": 1, "b": 2, "c": 3}
    try:
        implementation.tokenizers(one, {**one, "b": 3, "c": 2})
    except NotApplicable as reason:
        return Finding(padded.outcome, padded.error, f"{padded.why}; {reason}")
    except Exception as refused:
        return Finding("pass", padded.error, f"{padded.why}; a swapped pair of ids is refused ({type(refused).__name__})")
    return Finding("fail", 2.0, "tokenizers of equal size in which two ids are swapped are accepted")


def bound_by_key(implementation: Implementation) -> Finding:
    """8. A cached row belongs to its sample, in any order of rows and samples."""
    batch = problem(rows=5)
    straight, shuffled = implementation.by_key(batch, [0, 1, 2, 3, 4]), implementation.by_key(batch, [3, 0, 4, 2, 1])
    error = max(abs(a - b) for a, b in zip(straight, shuffled, strict=True))
    apart = min(abs(a - b) for i, a in enumerate(straight) for b in straight[:i])
    return _finding(error, f"loss of each of five rows, cache in order against shuffled; rows differ by at least {apart:.2g}", 0.0)


def log_z(implementation: Implementation) -> Finding:
    """9. Cached probabilities are changed to another temperature only with the stored normaliser."""
    teacher = problem().teacher_BLW.reshape(-1, _V)
    ids, p = implementation.cached_at(teacher, 2.0, True)
    error = float((p - (teacher / 2.0).softmax(-1).gather(-1, ids)).abs().max())
    try:
        implementation.cached_at(teacher, 2.0, False)
    except ValueError:
        return _finding(error, "probabilities at T = 2 with the stored log Z; without it T = 2 is refused")
    return Finding("fail", error, "a top-k cache without log Z_T is used at another temperature")


def teacher_rows(implementation: Implementation) -> Finding:
    """10. NaN and −inf never reach the loss, and an id that is listed twice counts once."""
    for bad in (math.nan, -math.inf):
        batch = problem()
        batch.teacher_BLW[1, 2] = bad
        try:
            value = float(implementation.loss(batch, 1.0, batch.count).detach())
        except ValueError:
            continue
        return Finding("fail", None, f"teacher logits of {bad} at one token give a loss of {value}, without an error")
    try:
        ids, logprobs = implementation.listed([3, 5, 3], [math.log(0.5), math.log(0.3), math.log(0.5)])
    except NotApplicable as reason:
        return Finding("pass", None, f"NaN and −inf are refused; {reason}")
    error = abs(sum(map(math.exp, logprobs)) - 0.8) + (len(ids) - len(set(ids)))
    return _finding(
        error, "NaN and −inf are refused; probability mass of a list with a repeated id against the mass without the repetition"
    )


class RecordingTeacher(torch.nn.Module):
    """A language model with dropout, left in training mode, that remembers how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop, self.head = torch.nn.Embedding(_V, 6), torch.nn.Dropout(0.5), torch.nn.Linear(6, _V, bias=False)
        self.config = SimpleNamespace(vocab_size=_V)
        self.calls: list[tuple[bool, bool, torch.Tensor]] = []
        self.train()

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, **_: Any) -> Any:
        hidden = self.drop(self.embed(input_ids))
        self.calls.append((self.training, torch.is_grad_enabled() and hidden.requires_grad, input_ids.clone()))
        return SimpleNamespace(logits=self.head(hidden), last_hidden_state=hidden)

    def get_decoder(self) -> Any:
        return self

    def get_output_embeddings(self) -> Any:
        return self.head


def teacher_mode(implementation: Implementation) -> Finding:
    """11. The teacher runs in eval mode and without gradients; behind a longer prompt of its own it scores the same completion ids."""
    teacher = RecordingTeacher()
    implementation.ask_teacher(teacher, problem().ids_BL)
    wrong = [
        name
        for name, on in (("in training mode", any(c[0] for c in teacher.calls)), ("with gradients", any(c[1] for c in teacher.calls)))
        if on
    ]
    if not teacher.calls:
        return Finding("fail", None, "the teacher did not run")
    mode = " and ".join(wrong) or "in eval mode and without gradients, although it was passed in training mode with dropout"
    if wrong:
        return Finding("fail", float(len(wrong)), f"the teacher ran {mode}")
    prompt, longer, completion = [1, 2], [3, 4, 5, 6], [7, 8]
    try:
        implementation.longer_prompt(prompt, longer, completion, completion)
    except NotApplicable:
        return Finding("pass", 0.0, f"the teacher ran {mode}")
    try:
        implementation.longer_prompt(prompt, longer, completion, [7, 9])
    except Exception as refused:
        return Finding(
            "pass", 0.0, f"the teacher ran {mode}; other completion ids behind a longer prompt are refused ({type(refused).__name__})"
        )
    return Finding("fail", 1.0, "probabilities of other completion ids, behind a longer prompt of the teacher, are accepted")


def one_pass(implementation: Implementation) -> Finding:
    """12. Text and probabilities belong to the same token ids."""
    ids = problem().ids_BL
    try:
        implementation.other_ids(ids[0], ids[1])
    except NotApplicable as no_cache:
        teacher = RecordingTeacher()
        try:
            implementation.ask_teacher(teacher, ids)
        except NotApplicable:
            raise no_cache from None
        same = bool(teacher.calls) and all(torch.equal(call[2], ids) for call in teacher.calls)
        return Finding(
            "pass" if same else "fail",
            float(not same),
            "the teacher scored exactly the ids of the batch" if same else "the teacher scored other ids than those of the batch",
        )
    except Exception as refused:
        return Finding("pass", 0.0, f"probabilities made for other ids are refused ({type(refused).__name__})")
    return Finding("fail", 1.0, "probabilities made for other token ids are accepted")


RULES: dict[str, Callable[[Implementation], Finding]] = {
    rule.__name__: rule
    for rule in (
        shift,
        normalise_once,
        temperature_squared,
        report_kl,
        chunked,
        empty_mask,
        vocabulary,
        bound_by_key,
        log_z,
        teacher_rows,
        teacher_mode,
        one_pass,
    )
}


def run_rules(implementation: Implementation) -> dict[str, Finding]:
    """Every rule on one implementation."""
    findings = {}
    for name, rule in RULES.items():
        try:
            findings[name] = rule(implementation)
        except NotApplicable as reason:
            findings[name] = Finding("not applicable", None, str(reason))
    return findings
