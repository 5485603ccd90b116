"""What only the teacher is shown before a prompt: a system text, and labelled rows as examples."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from redistill.data.grammars.types import labels_in
from redistill.data.params import DataParams
from redistill.data.types import Prompt
from redistill.errors import ConfigError
from redistill.io.digests import canonical_digest


@dataclass(frozen=True, slots=True)
class TeacherPrompt:
    """A system text (empty: none) and examples, each a row with its label, in the order in which they are shown."""

    system: str = ""
    examples: tuple[Prompt, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.system or self.examples)

    @property
    def digest(self) -> str:
        """Digest of what the teacher is shown; empty where that is nothing."""
        shown = [[[asdict(m) for m in e.messages], [asdict(c) for c in e.columns], e.label] for e in self.examples]
        return canonical_digest([self.system, shown]) if self else ""

    def before(self, prompt: Prompt) -> TeacherPrompt:
        """What is shown before this prompt: a row that is an example itself would be shown its own label."""
        if all(e.id != prompt.id for e in self.examples):
            return self
        return replace(self, examples=tuple(e for e in self.examples if e.id != prompt.id))


NO_PROMPT = TeacherPrompt()
"""The teacher is shown what the student is shown."""


def chosen_examples(train: Sequence[Prompt], count: int, data: DataParams, key: str) -> tuple[Prompt, ...]:
    """Labelled rows to show, the same ones each time, spread over the labels.

    A row's place follows from a hash of it, and a label's place from a hash of its name. So a new row moves an earlier one only if its hash is the smaller one.

    Args:
        key: the parameter that asks for them, for the error.

    Raises:
        ConfigError: there are fewer labelled rows.
    """
    labelled = [p for p in train if p.label is not None]
    if len(labelled) < count:
        raise ConfigError(
            f"{key}={count}, but the split train has {len(labelled)} labelled rows; lower it, or add labelled rows with a share of train"
        )
    groups: dict[str, list[Prompt]] = {}
    for prompt in sorted(labelled, key=lambda p: _place(p.id)):
        groups.setdefault(_group(prompt, data), []).append(prompt)
    ordered, chosen = [groups[name] for name in sorted(groups, key=_place)], list[Prompt]()
    for turn in range(max(map(len, ordered), default=0)):
        chosen += [group[turn] for group in ordered if turn < len(group)]
        if len(chosen) >= count:
            break
    return tuple(sorted(chosen[:count], key=lambda p: _place(p.id)))


def prompt_from_json(tree: Any) -> TeacherPrompt:
    """What ``prompt_to_json`` made."""
    from pydantic import TypeAdapter

    return TypeAdapter(TeacherPrompt).validate_python(tree)


def prompt_to_json(prompt: TeacherPrompt) -> dict[str, Any]:
    return asdict(prompt)


def _group(prompt: Prompt, data: DataParams) -> str:
    """The first label of a row; free text is one group."""
    return next(iter(labels_in(data.grammar, prompt.label or "")), "")


def _place(name: str) -> bytes:
    """Not the hash that decides the split: its smallest values are all in the first split."""
    return hashlib.sha256(f"teacher prompt {name}".encode()).digest()
