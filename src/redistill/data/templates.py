"""From a prompt to the exact text that teacher and student see.

One template serves teacher, training, benchmark and serving, so that a score is a score of what will be served.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from redistill.data.params import DataParams, completion_lead
from redistill.data.prompt_template import TEXT, fill
from redistill.data.types import Message, Prompt
from redistill.errors import ConfigError
from redistill.io.digests import canonical_digest

_CONTROL = re.compile(
    r"<[|\uff5c][^|\uff5c<>\s]{1,40}[|\uff5c]>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>|<</?SYS>>"
    r"|\[/?(?:INST|TOOL_CALLS|TOOL_RESULTS|AVAILABLE_TOOLS|SYSTEM_PROMPT|THINK|IMG)\]"
)
"""Control tokens as common models spell them: for endpoints, whose tokenizer is not known."""
_LOOKS_LIKE_CONTROL = re.compile(r"<[^<>\s]+>|\[/?[A-Z_]+\]")


def render(prompt: Prompt, data: DataParams, tokenizer: Any = None) -> str:
    """The prompt as one string. ``chat`` uses the tokenizer's own chat template, ``plain`` only ours.

    The string holds everything, also the token with which some models expect a text to start, so nothing is added when it is tokenized. What a row
    contains is text: a control token that is spelled in it is broken up.

    Raises:
        ConfigError: the tokenizer has no chat template, or its template refuses the conversation.
    """
    text = last_content(prompt, data, tokenizer)
    if data.format == "plain":
        return text if tokenizer is None else _start(data, tokenizer) + text
    messages = [{"role": m.role, "content": m.content} for m in earlier_messages(prompt, tokenizer)]
    return _in_chat_template([*messages, {"role": prompt.messages[-1].role, "content": text}], tokenizer)


def last_content(prompt: Prompt, data: DataParams, tokenizer: Any = None) -> str:
    """The last message in our template."""
    values = {TEXT: prompt.messages[-1].content, **{c.name: c.value for c in prompt.columns}}
    return fill(data.prompt_template, {name: as_text(value, tokenizer) for name, value in values.items()})


def earlier_messages(prompt: Prompt, tokenizer: Any = None) -> tuple[Message, ...]:
    """The turns before the last message."""
    return tuple(Message(m.role, as_text(m.content, tokenizer)) for m in prompt.messages[:-1])


def as_text(content: str, tokenizer: Any = None) -> str:
    """What a row contains, so that no tokenizer reads a control token in it: a space follows the first character of each that is spelled in it."""
    pattern = _CONTROL if tokenizer is None else _control_tokens(tokenizer)
    return pattern.sub(lambda match: f"{match.group()[0]} {match.group()[1:]}", content)


def completion_text(label: str, data: DataParams) -> str:
    """The completion as it follows the prompt: after a plain template it starts with the space that a tokenizer expects."""
    return completion_lead(data.format) + label


def template_digest(data: DataParams, tokenizer: Any) -> str:
    """Digest of all that decides how a prompt is shown, besides the prompt."""
    chat = getattr(tokenizer, "chat_template", None) if data.format == "chat" else None
    start = _start(data, tokenizer) if data.format == "plain" and tokenizer is not None else ""
    return canonical_digest([data.format, data.prompt_template, chat, *([start] if start else [])])


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
