"""Keys, tokens and passwords, by the plugins of detect-secrets, each applied to one line of text, and by patterns of our own.

Ours know the newer beginnings of keys, and passwords in plain sentences. A secret that goes to a teacher or into a store is a secret to be revoked. The library scans files and asks the issuers
whether a key is live; here only its patterns are used, on text in memory. Its entropy plugins are left out: in prose
they take any long word for a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from redistill.data.normal_form import normalised
from redistill.validation.filters.personal_data import in_original
from redistill.validation.patterns.findings import Finding
from redistill.validation.patterns.keys import ACCESS_KEY, keys
from redistill.validation.patterns.passwords import PASSWORD, passwords
from redistill.validation.types import Candidate, Drop, Keep

PRIVATE_KEY, BASIC_AUTH, ASSIGNMENT = "private key", "basic auth credentials", "password or key in an assignment"
_KINDS = {
    "aws.AWSKeyDetector": "AWS access key",
    "private_key.PrivateKeyDetector": PRIVATE_KEY,
    "jwt.JwtTokenDetector": "JSON web token",
    "slack.SlackDetector": "Slack token",
    "stripe.StripeDetector": "Stripe access key",
    "github_token.GitHubTokenDetector": "GitHub token",
    "gitlab_token.GitLabTokenDetector": "GitLab token",
    "openai.OpenAIDetector": "OpenAI token",
    "pypi_token.PypiTokenDetector": "PyPI token",
    "npm.NpmDetector": "npm token",
    "sendgrid.SendGridDetector": "SendGrid key",
    "discord.DiscordBotTokenDetector": "Discord token",
    "telegram_token.TelegramBotTokenDetector": "Telegram token",
    "twilio.TwilioKeyDetector": "Twilio key",
    "azure_storage_key.AzureStorageKeyDetector": "Azure storage key",
    "square_oauth.SquareOAuthDetector": "Square secret",
    "mailchimp.MailchimpDetector": "Mailchimp key",
    "basic_auth.BasicAuthDetector": BASIC_AUTH,
}
# The library's patterns end at a token's shortest form; the rest of the token belongs to it too.
_REST_OF_TOKEN = re.compile(r"[\w-]*(?:\.[\w-]+)*")
_KEY_BODY = re.compile(r"[-\s]*(?:[A-Za-z0-9+/=]{16,}\s*)*(?<!\s)")
_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
# What the library's patterns need: a long token, an address with a password, the begin of a key, or a word before "=".
_MAY_HOLD = re.compile(r"[\w+/=.:~-]{16}|://|-----BEGIN|(?:key|pass|pwd|secret|token|contrase)", re.IGNORECASE)
_BY_CONTEXT = (ASSIGNMENT, ACCESS_KEY, PASSWORD)
_KEYWORD_WITH_SPACE = re.compile(r"\b(api|auth|service|account|private|client|access) (?=key\b)", re.IGNORECASE)


def find(text: str) -> list[Finding]:
    """Every secret in a text, in order; spans may overlap where two patterns know the same key."""
    plain = normalised(text)
    findings: set[Finding] = set(keys(plain)) | set(passwords(plain))
    if _MAY_HOLD.search(plain):
        start = 0
        for line in plain.splitlines(keepends=True):
            findings |= {_whole(plain, Finding(f.kind, start + f.start, start + f.end)) for f in _in_line(line)}
            start += len(line)
    # What knows a key by its beginning comes first, then what knows it by the words beside it.
    rank = {kind: place for place, kind in enumerate(_BY_CONTEXT, 1)}
    ordered = sorted(findings, key=lambda f: (f.start, rank.get(f.kind, 0), f.end, f.kind))
    return in_original(text, plain, ordered)


def judge(candidate: Candidate) -> Keep | Drop:
    findings = find(candidate.text)
    return Drop("secrets", findings[0].kind) if findings else Keep()


def _in_line(line: str) -> Iterator[Finding]:
    for kind, plugin in _plugins():
        for pattern in plugin.denylist:
            for match in pattern.finditer(line):
                # Spans are needed, and analyze_string gives only the group: for a GitHub token that is its prefix.
                if not hasattr(plugin, "is_formally_valid") or plugin.is_formally_valid(match.group()):
                    yield Finding(kind, match.start(), match.end())
    yield from _assignments(_KEYWORD_WITH_SPACE.sub(r"\1_", line))


def _assignments(line: str) -> Iterator[Finding]:
    """``password=hunter2`` and its like; a value counts when it has six characters, a letter and a digit.

    In prose "password: not working" is no password.
    """
    from detect_secrets.plugins.keyword import CONFIG_DENYLIST_REGEX_TO_GROUP, QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP

    for pattern, group in {**QUOTES_REQUIRED_DENYLIST_REGEX_TO_GROUP, **CONFIG_DENYLIST_REGEX_TO_GROUP}.items():
        at = 0
        while match := pattern.search(line, at):
            start, end = match.span(group)
            if line[start - 1] not in "'\"`":
                # Without quotes the library takes the rest of the line; a password ends at the first space.
                end = start + len(match.group(group).split()[0].rstrip(".,;:!?)"))
            value = line[start:end]
            if len(value) >= 6 and re.search(r"[^\W\d_]", value) and re.search(r"\d", value):
                yield Finding(ASSIGNMENT, start, end)
            at = max(end, match.start() + 1)


def _whole(text: str, finding: Finding) -> Finding:
    if finding.kind in _BY_CONTEXT:
        return finding
    if finding.kind != PRIVATE_KEY:
        rest = _REST_OF_TOKEN.match(text, finding.end)
        return Finding(finding.kind, finding.start, rest.end() if rest else finding.end)
    start = len(text[: finding.start].rstrip("- "))
    closing = _KEY_END.search(text, finding.end)
    body = closing or _KEY_BODY.match(text, finding.end)
    return Finding(PRIVATE_KEY, start + (text[start : start + 1] == " "), body.end() if body else finding.end)


@cache
def _plugins() -> tuple[tuple[str, Any], ...]:
    from importlib import import_module

    pairs = ((kind, path.split(".")) for path, kind in _KINDS.items())
    return tuple((kind, getattr(import_module(f"detect_secrets.plugins.{module}"), name)()) for kind, (module, name) in pairs)
