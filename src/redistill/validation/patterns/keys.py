"""Keys and tokens of services, by the beginning that each service gives them, and others where the words before them say that they are keys.

The lengths are the fewest that a beginning needs to be no word; services change the exact ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from redistill.validation.patterns.findings import Finding

ACCESS_KEY = "key or token"
_BEGINNINGS = {
    "Google API key": r"AIza[\w-]{12,}",
    "GitHub token": r"(?:github_pat_|gh[pousr]_)\w{10,}",
    "Anthropic key": r"sk-ant-[\w-]{8,}",
    "OpenAI token": r"sk-(?:proj-|svcacct-|admin-|or-v1-|live-|test-)?(?=[\w-]*\d)[\w-]{16,}",
    "AWS access key": r"(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{12,}",
    "GitLab token": r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|soat)-[\w-]{10,}",
    "Slack token": r"xox[abeoprs]-[\w-]{10,}|xapp-[\w-]{10,}|https://hooks\.slack\.com/services/[\w/]{20,}",
    "Hugging Face token": r"hf_\w{12,}|api_org_\w{20,}",
    "Stripe access key": r"[rsp]k_(?:live|test|prod)_\w{10,}|whsec_\w{16,}",
    "SendGrid key": r"SG\.[\w-]{10,}\.[\w-]{10,}",
    "npm token": r"npm_\w{12,}",
    "PyPI token": r"pypi-[\w-]{16,}",
    "Google OAuth token": r"ya29\.[\w-]{16,}|GOCSPX-[\w-]{16,}|1//0[\w-]{20,}",
    "Groq, xAI or other model key": r"(?:gsk_|xai-|r8_|pplx-|tvly-|nvapi-|fw_|csk-|jina_|co-)[A-Za-z0-9]{20,}[\w-]*",
    "DigitalOcean token": r"do[opr]_v1_\w{16,}",
    "Shopify token": r"shp(?:at|ca|pa|ss)_\w{16,}",
    "Azure key": r"AccountKey=[\w+/]{20,}={0,2}|SharedAccessKey=[\w+/]{20,}={0,2}|[?&]sig=[\w%+/]{20,}",
    "Twilio key": r"(?:SK|AC)[0-9a-f]{32}",
    "Mailgun or Mailchimp key": r"key-[0-9a-f]{32}|[0-9a-f]{32}-us\d{1,2}",
    "Databricks token": r"dapi[0-9a-f]{32}",
    "Vault, Doppler or Linear token": r"hv[sbr]\.[\w-]{20,}|dp\.(?:pt|st|ct|sa)\.[\w.]{20,}|lin_(?:api|oauth)_\w{20,}",
    "Notion, Figma, Postman or Airtable token": r"(?:secret_|ntn_)[A-Za-z0-9]{30,}|figd_[\w-]{20,}|PMAK-[\w-]{20,}|pat[A-Za-z0-9]{14}\.\w{20,}",
    "Telegram token": r"\d{8,10}:AA[\w-]{30,}",
    "Square or PayPal secret": r"sq0(?:atp|csp|idp)-[\w-]{16,}|EAAA[\w-]{40,}|access_token\$(?:production|sandbox)\$\w{16,}",
    "JSON web token": r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}",
    "SSH or age private key": r"AGE-SECRET-KEY-1[A-Z0-9]{30,}",
}
_KNOWN = re.compile("|".join(f"(?P<k{i}>{pattern})" for i, pattern in enumerate(f"(?<![A-Za-z0-9])(?:{p})" for p in _BEGINNINGS.values())))
_KINDS = tuple(_BEGINNINGS)
_LONG_TOKEN = re.compile(r"[\w+/=.:$?&-]{12}")
_NAMED = re.compile(
    r"(?:\b(?:api|secret|access|auth|authentication|authorization|private|client|consumer|signing|encryption|aws|azure|account|service|master|deploy|license|licence|app)"
    r"[\s_-]?(?:access[\s_-]?)?(?:key|keys|token|secret|id)\b|\b(?:token|bearer|secret|apikey|api[\s_-]key|aws_secret_access_key|secret[\s_-]access[\s_-]key|"
    r"credentials?|webhook secret|key)\b|[A-Z0-9_]{0,24}_(?:KEY|TOKEN|SECRET)\b)(?:[\s:=#'\"`,(>-]|\b(?:is|was|value|key|id|my|the|for|this|here|new|it|s|prod|staging|as|now|are|header|token|secret|"
    r"access|api|code|string|production|test|live)\b){0,12}+(?P<value>[A-Za-z0-9+/_=.~-]{12,})",
    re.IGNORECASE,
)


def keys(text: str) -> Iterator[Finding]:
    """Every key and token of a text in normal form."""
    if _LONG_TOKEN.search(text) is None:
        return
    for match in _KNOWN.finditer(text):
        yield Finding(_KINDS[int(str(match.lastgroup)[1:])], *match.span())
    for match in _NAMED.finditer(text):
        value = match["value"].rstrip(".=-") or match["value"]
        if _is_random(value):
            yield Finding(ACCESS_KEY, match.start("value"), match.start("value") + len(value))


def _is_random(value: str) -> bool:
    """Letters and digits mixed, as no word is; a long word, a path and a date with dashes are none."""
    digits, letters = sum(c.isdigit() for c in value), sum(c.isalpha() for c in value)
    mixed = value != value.lower() and value != value.upper()
    if letters < 4 or not (digits >= 2 or (digits and mixed and len(value) >= 20)):
        return False
    return re.fullmatch(r"(?:[A-Za-z]+|\d+)(?:[./_-](?:[A-Za-z]+|\d+))*", value) is None
