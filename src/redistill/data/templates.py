"""From a prompt to the exact text that teacher and student see.

One template serves teacher, training, benchmark and serving, so that a score is a score of what will be served. Before it, the teacher alone may be shown
more (``redistill.data.teacher_prompt``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from redistill.data.params import DataParams, completion_lead
from redistill.data.prompt_template import TEXT, fill
from redistill.data.teacher_prompt import NO_PROMPT, TeacherPrompt
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError
from redistill.io.digests import canonical_digest

_CONTROL = re.compile(
    r"<[|\uff5c][^|\uff5c<>\s]{1,40}[|\uff5c]>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|<</?SYS>>"
    r"|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT|THINK|IMG)\]"
)
"""Control tokens as common models spell them: for endpoints, whose tokenizer is not known."""
_LOOKS_LIKE_CONTROL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


_BLOCKS = "\n\n"
"""Between a system text, the examples, and the prompt, where they are plain text."""


def render(prompt: Prompt, data: DataParams, tokenizer: Any = None, teacher_prompt: TeacherPrompt = NO_PROMPT) -> str:
    """The prompt as one string. ``chat`` uses the tokenizer's own chat template, ``plain`` only ours.

    The string holds everything, also the token with which some models expect a text to start, so nothing is added when it is tokenized. What a row
    contains is text: a control token that is spelled in it is broken up. ``teacher_prompt`` is shown before it.

    Raises:
        ConfigError: the tokenizer has no chat template, or its template refuses the conversation.
    """
    if data.format == "plain":
        text = _BLOCKS.join([*_plain_blocks(teacher_prompt.before(prompt), data, tokenizer), last_content(prompt, data, tokenizer)])
        # A template that writes the start writes it behind the system text.
        return text if tokenizer is None else (start_text(tokenizer) if teacher_prompt.system else _start(data, tokenizer)) + text
    last = Message(prompt.messages[-1].role, last_content(prompt, data, tokenizer))
    shown = (*earlier_messages(prompt, tokenizer, data, teacher_prompt), last)
    return _in_chat_template([{"role": m.role, "content": m.content} for m in shown], tokenizer)


def _plain_blocks(teacher_prompt: TeacherPrompt, data: DataParams, tokenizer: Any) -> list[str]:
    examples = [
        last_content(e, data, tokenizer) + completion_text(as_text(e.label or "", tokenizer), data) for e in teacher_prompt.examples
    ]
    return [*([teacher_prompt.system] if teacher_prompt.system else []), *examples]


def last_content(prompt: Prompt, data: DataParams, tokenizer: Any = None) -> str:
    """The last message in our template."""
    values = {TEXT: prompt.messages[-1].content, **{c.name: c.value for c in prompt.columns}}
    return fill(data.prompt_template, {name: as_text(value, tokenizer) for name, value in values.items()})


def earlier_messages(
    prompt: Prompt, tokenizer: Any = None, data: DataParams | None = None, teacher_prompt: TeacherPrompt = NO_PROMPT
) -> tuple[Message, ...]:
    """The turns before the last message; with ``teacher_prompt`` its system text and examples first.

    A conversation has one system message: the teacher's system text stands in front of the row's own. The examples' own system messages are left out.
    """
    earlier = tuple(Message(m.role, as_text(m.content, tokenizer)) for m in prompt.messages[:-1])
    if not teacher_prompt or data is None:
        return earlier
    own, rest = _system_apart(earlier)
    system = _BLOCKS.join(filter(None, [teacher_prompt.system, own]))
    turns: list[Message] = [Message("system", system)] if system else []
    for example in teacher_prompt.before(prompt).examples:
        turns += _system_apart(earlier_messages(example, tokenizer))[1]
        turns.append(Message(example.messages[-1].role, last_content(example, data, tokenizer)))
        turns.append(Message("assistant", completion_text(as_text(example.label or "", tokenizer), data)))
    return (*turns, *rest)


def shown_chars(teacher_prompt: TeacherPrompt, data: DataParams) -> int:
    """Characters that only the teacher reads before each prompt, without what a chat template adds."""
    asked = Prompt.of((Message("user", ""),), "", "", None, "")
    return sum(len(m.content) for m in earlier_messages(asked, None, data, teacher_prompt))


def _system_apart(messages: tuple[Message, ...]) -> tuple[str, tuple[Message, ...]]:
    """The text of the system message that a conversation starts with, and the other messages."""
    return (messages[0].content, messages[1:]) if messages and messages[0].role == "system" else ("", messages)


def as_text(content: str, tokenizer: Any = None) -> str:
    """What a row contains, so that no tokenizer reads a control token in it: a space follows the first character of each that is spelled in it."""
    pattern = _CONTROL if tokenizer is None else _control_tokens(tokenizer)
    return pattern.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", content)


def completion_text(label: str, data: DataParams) -> str:
    """The completion as it follows the prompt: after a plain template it starts with the space that a tokenizer expects."""
    return completion_lead(data.format) + label


def template_digest(data: DataParams, tokenizer: Any) -> str:
    """Digest of all that decides how a prompt is shown, besides the prompt, and to what its completion is held."""
    chat = getattr(tokenizer, "chat_template", None) if data.format == "chat" else None
    start = _start(data, tokenizer) if data.format == "plain" and tokenizer is not None else ""
    # What completions are held to belongs to it: the same weights are otherwise sure, so a threshold that was learned with another form does not hold.
    form = [] if data.form is None else [[data.form.kind, data.form.text]]
    return canonical_digest([data.format, data.prompt_template, chat, *([start] if start else []), *form])


def _start(data: DataParams, tokenizer: Any) -> str:
    """What stands before our template. A template may write it itself."""
    start = start_text(tokenizer)
    return "" if data.prompt_template.startswith(start) else start


@lru_cache(maxsize=8)
def start_text(tokenizer: Any) -> str:
    """What this tokenizer puts before every text, such as ``<s>``; nothing for most. Models that were trained with it write noise without it."""
    with_start, plain = list(tokenizer("a")["input_ids"]), list(tokenizer("a", add_special_tokens=False)["input_ids"])
    # A tokenizer may also add an end, which no prompt has.
    count = next((n for n in range(len(with_start)) if with_start[n : n + len(plain)] == plain), 0)
    return str(tokenizer.decode(with_start[:count])) if count else ""


@lru_cache(maxsize=8)
def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    # Some tokenizers do not call their control tokens special, such as <tool_call>.
    names = {str(token.content) for token in added if token.special or _LOOKS_LIKE_CONTROL.fullmatch(str(token.content))}
    names.update(getattr(tokenizer, "all_special_tokens", ()))
    # A token of one character cannot be broken up.
    spelled = sorted((name for name in names if len(name) > 1), key=lambda name: (-len(name), name))
    return re.compile("|".join(map(re.escape, spelled)) if spelled else r"(?!)")


def _in_chat_template(messages: list[dict[str, str]], tokenizer: Any) -> str:
    from jinja2.exceptions import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise ConfigError(
            "data.format is chat, but the model's tokenizer has no chat template; use data.format: plain, or a model that was tuned for conversations"
        )
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        roles = ", ".join(m["role"] for m in messages)
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"the model's chat template refuses a conversation with the roles {roles}: {reason}; change the rows' messages, or use another model"
        ) from None
