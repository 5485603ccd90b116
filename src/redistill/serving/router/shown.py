"""How a model's server is shown a request of the task: with the project's template, as at training and in the benchmark.

Local weights read a text that is rendered here, so that no server applies a template of its own. An endpoint that only chats renders itself; it is sent the
messages that it was sent as a teacher.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redistill.data.params import DataParams
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.templates import earlier_messages, last_content, render
from redistill.models.token_trace import TOP
from redistill.serving.router.types import PATHS, Asked, BadRequestError, Endpoint
from redistill.teacher.openai_form import keys_of

_SET_HERE = frozenset(
    ("messages", "prompt", "model", "max_tokens", "max_completion_tokens", "stop", "stream", "stream_options", "logprobs", "top_logprobs", "n", "best_of")
)  # fmt: skip
_MOST_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True)
class Shown:
    """One model behind the router.

    ``tokenizer`` is that of local weights; None for an endpoint that renders itself. ``max_tokens`` is the benchmark's, with which the model was measured.
    ``form`` is what asks the server to hold completions to the form of the task.
    """

    model: str
    data: DataParams
    max_tokens: int
    tokenizer: Any = None
    teacher_prompt: TeacherPrompt = NO_PROMPT
    form: dict[str, Any] = field(default_factory=dict)

    @property
    def endpoint(self) -> Endpoint:
        return "chat" if self.tokenizer is None and self.data.format == "chat" else "completions"

    def path(self, asked: Asked) -> str:
        return PATHS[self.endpoint if asked.prompt is not None else asked.endpoint]

    def untouched(self, asked: Asked) -> dict[str, Any]:
        """The body of a request of another kind than the task's: as it came, with the name of the model."""
        return {**asked.body, "model": self.model}

    def body(self, asked: Asked, *, stream: bool, scored: bool = False) -> dict[str, Any]:
        """The body of a request of the task. ``scored`` asks for what confidence scores are computed from.

        Raises:
            BadRequestError: ``max_tokens``, ``stop`` or ``logprobs`` is of a wrong type.
            ConfigError: the chat template refuses the conversation.
        """
        assert asked.prompt is not None
        chat = self.endpoint == "chat"
        # A null means "the default", and a server's own default may be to sample.
        body = {key: value for key, value in asked.body.items() if key not in _SET_HERE and value is not None}
        body |= {"model": self.model, "max_tokens": self._limit(asked.body), "stream": stream}
        body.setdefault("temperature", 0.0)
        if stream:
            body["stream_options"] = {"include_usage": True}
        stops = self._stops(asked.body, chat=chat)
        if stops:
            body["stop"] = stops
        listed = listed_count(asked.body)
        count = TOP if scored else listed
        if count is not None:
            body |= {"logprobs": True, "top_logprobs": count} if chat else {"logprobs": count}
        if chat:
            earlier = earlier_messages(asked.prompt, None, self.data, self.teacher_prompt)
            last = {"role": "user", "content": last_content(asked.prompt, self.data)}
            body["messages"] = [*({"role": m.role, "content": m.content} for m in earlier), last]
        else:
            body["prompt"] = render(asked.prompt, self.data, self.tokenizer, self.teacher_prompt)
        if self.tokenizer is not None:
            # The rendered text has its start token already.
            body["add_special_tokens"] = False
        return body | self.form

    def _limit(self, body: dict[str, Any]) -> int:
        value = body.get("max_completion_tokens") or body.get("max_tokens") or self.max_tokens
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _MOST_TOKENS:
            raise BadRequestError("max_tokens must be a whole number above 0")
        return value

    def _stops(self, body: dict[str, Any], *, chat: bool) -> list[str]:
        stop = body.get("stop") or []
        listed = [stop] if isinstance(stop, str) else stop
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise BadRequestError("stop must be a text, or a list of texts")
        # A chat model may open with a line break, or reason in many lines: a record's one line is cut out afterwards.
        ours = [] if chat and self.data.stops == ("\n",) else list(self.data.stops)
        return [*ours, *(each for each in listed if each not in ours)]


def shown_to(model: str, data: DataParams, max_tokens: int, tokenizer: Any = None, teacher_prompt: TeacherPrompt = NO_PROMPT) -> Shown:
    """How a model is shown requests; the form is turned into a grammar once."""
    return Shown(model, data, max_tokens, tokenizer, teacher_prompt, keys_of(data.form))


def listed_count(body: dict[str, Any]) -> int | None:
    """How many most likely tokens the caller asks for; None if it asks for no probabilities.

    Raises:
        BadRequestError: no number from 0 to 20.
    """
    wants, count = body.get("logprobs"), body.get("top_logprobs") or 0
    if wants is None or wants is False:
        return None
    number = count if wants is True else wants
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= TOP:
        raise BadRequestError(f"logprobs and top_logprobs: at most {TOP} tokens")
    return number
