"""What a method is: settings in ``params.yaml``, what it needs besides the student, and a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import BeforeValidator, Discriminator, GetCoreSchemaHandler, Tag

if TYPE_CHECKING:
    import torch
    from pydantic_core import CoreSchema

    from redistill.distillation.losses.types import LossSums
    from redistill.distillation.losses.workspace import Workspace
    from redistill.distillation.training.batch import Batch
    from redistill.distillation.training.examples import Example

Need = Literal["text", "soft_targets", "teacher_weights", "teacher_logprobs"]
"""What a method can need of the teacher: its completions, its stored probabilities of them, its weights beside the student, or a running teacher that
gives log-probabilities of tokens that the student wrote."""


@dataclass(frozen=True, slots=True)
class MethodInputs:
    """What a method gets besides its settings. ``tokenizer`` is the student's, ``vocabulary`` its number of ids; ``teacher`` is the loaded model, for
    methods that need its weights."""

    temperature: float
    tokenizer: Any
    vocabulary: int
    seed: int
    teacher: Any = None


class MethodParams(ABC):
    """How a student learns from its teacher; [which to choose](methods/README.md). If only a name is given, all other settings have their defaults."""

    SECTION: ClassVar[str] = "finetune.method"
    KINDS: ClassVar[dict[str, type[MethodParams]]] = {}
    """Settings by name. ``redistill.distillation.methods.all_methods`` fills it."""
    needs: ClassVar[frozenset[Need]]
    name: str

    @abstractmethod
    def build(self, inputs: MethodInputs) -> Method:
        """The method with these settings."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """This class itself is validated as the method that ``name`` says."""
        if cls is not MethodParams:
            return handler(source)
        if not cls.KINDS:
            raise TypeError("import redistill.distillation.methods.all_methods before a section with a method")
        tagged = tuple(Annotated[kind, Tag(_tag(name))] for name, kind in cls.KINDS.items())
        union: Any = Union[tagged]  # noqa: UP007 - of a tuple
        return handler.generate_schema(Annotated[union, Discriminator(lambda value: _tag(_name_of(value))), BeforeValidator(_named)])


class Method(ABC):
    """One way to distil.

    ``temperature`` is the one of its divergence. The method owns it: batches are made with it, and a batch that was made with another is refused.
    """

    temperature = 1.0

    def prepare(self, examples: Sequence[Example], passes: float, progress: Callable[[int], None] | None = None) -> Sequence[Example]:
        """The examples to train on, before training starts; by default these. ``passes`` is how often this process goes over them."""
        return examples

    def batch(self, model: Any, batch: Batch, step: int) -> Batch:
        """What the student is trained on in this step; by default what the collator made. Called before supervised tokens are counted."""
        return batch

    @abstractmethod
    def loss(self, hidden_BLD: torch.Tensor, head_VD: torch.Tensor, batch: Batch, workspace: Workspace | None = None) -> LossSums:
        """Weighted sums over the supervised tokens of a batch, not yet divided by anything (KD rule 2)."""


def _named(value: object) -> object:
    """If only a name is given, all other settings have their defaults. A setting of another method is an error that names that method."""
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, MethodParams):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a method; give a name, or a mapping with the key name")
    value = {"name": "logit", **value}
    settings = {name: {field.name for field in fields(kind)} for name, kind in sorted(MethodParams.KINDS.items())}  # type: ignore[arg-type]
    if (name := str(value["name"])) not in settings:
        raise ValueError(f"unknown method {name!r}; the methods are {', '.join(settings)}")
    others = {key: [other for other, keys in settings.items() if key in keys] for key in sorted(value.keys() - settings[name])}
    if problems := [f"no setting {key}, which is a setting of {', '.join(names)}" for key, names in others.items() if names]:
        raise ValueError(f"method {name} has {'; '.join(problems)}")
    return value


def _name_of(value: Any) -> str:
    return str(value.get("name")) if isinstance(value, dict) else str(getattr(value, "name", None))


def _tag(name: str) -> str:
    # Parentheses mark it as a branch and not a key of the file, so that messages leave it out (``redistill.config.file``).
    return f"{name}()"
