from __future__ import annotations

import base64

import pytest

from redistill.validation.filters.personal_data import redact
from redistill.validation.filters.secrets import find, judge
from redistill.validation.types import Candidate, Drop, Keep

# Put together here, so that no scanner takes this file for a leak.
GITHUB = "ghp_" + "a1B2" * 9
SLACK = "xoxb-" + "123456789012-abcdefABC"
STRIPE = "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc99"
JWT = ".".join(
    base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (b'{"alg":"HS256"}', b'{"sub":"1"}', b"0123456789abcdef" * 2)
)
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA\n" * 3 + "abc=\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "kind", "redacted"),
    [
        ("i used AKIAIOSFODNN7EXAMPLE today", "AWS access key", "i used [SECRET] today"),
        (f"my token {GITHUB}.", "GitHub token", "my token [SECRET]."),
        (SLACK, "Slack token", "[SECRET]"),
        (STRIPE, "Stripe access key", "[SECRET]"),
        (f"bearer {JWT} ok", "JSON web token", "bearer [SECRET] ok"),
        ("https://bob:hunter22@example.com/x", "basic auth credentials", "https[SECRET]/x"),
        (f"here {PEM}\nthanks", "private key", "here [SECRET]\nthanks"),
        ("-----BEGIN RSA PRIVATE KEY----- MIIEpAIBAAKCAQEA0 and then", "private key", "[SECRET] and then"),
        ("password=hunter2 and then", "password or key in an assignment", "password=[SECRET] and then"),
        ("maps AIza" + "Sy" + "a1B2c3" * 5 + " leaked", "Google API key", "maps [SECRET] leaked"),
        ("push with github_" + "pat_11ABCDE0123456789_abcdef", "GitHub token", "push with [SECRET]"),
        ("sk-" + "ant-api03-abcdefghijklmnop", "Anthropic key", "[SECRET]"),
        ("my aws secret is wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYzzzzzzzKEY", "key or token", "my aws secret is [SECRET]"),
        ("my password is hunter2!", "password", "my password is [SECRET]!"),
        ("my password is sunshine", "password", "my password is [SECRET]"),
        ("log in with jsmith/p4ssw0rd", "password", "log in with jsmith/[SECRET]"),
        ("user jo, pass letmein1", "password", "user jo, pass [SECRET]"),
        ("Marigold77 is what I always used as password", "password", "[SECRET] is what I always used as password"),
        ("the password you sent me, Xk7vP2qm, fails", "password", "the password you sent me, [SECRET], fails"),
        ("changed password from Oldsmoke1 to Newsmoke2", "password", "changed password from [SECRET] to [SECRET]"),
        ("password\nCobalt-88-fox", "password", "password\n[SECRET]"),
        ("credentials are lena:Moonrise8", "password", "credentials are [SECRET]"),
        ("log in as lena with Sandcastle9", "password", "log in as lena with [SECRET]"),
        ("user: lena p: toffee", "password", "user: lena p: [SECRET]"),
        ("my username is mara and password toffee", "password", "my username is mara and password [SECRET]"),
        ("my password (all lower case) is marmalade", "password", "my password (all lower case) is [SECRET]"),
        ("p/w Cactus123", "password", "p/w [SECRET]"),
        ("la mia password è Gelato&90", "password", "la mia password è [SECRET]"),
        ("Mein Passwort lautet: Birnbaum", "password", "Mein Passwort lautet: [SECRET]"),
        ("密码是Hua2020x", "password", "密码是[SECRET]"),
        ("set my password to dragonfly", "password", "set my password to [SECRET]"),
        ('my api key: "abc def 123"!', "password or key in an assignment", 'my api key: "[SECRET]"!'),
    ],
)
def test_secrets_are_found_and_replaced_whole(text: str, kind: str, redacted: str) -> None:
    assert judge(Candidate(text)) == Drop("secrets", kind)
    assert redact(text) == redacted


def test_every_secret_of_a_line_is_found() -> None:
    assert redact("secret=abc123x password=def456y") == "secret=[SECRET] password=[SECRET]"


@pytest.mark.parametrize(
    "text",
    [
        "password: not working since 2024",
        "my password = wrong again",
        "my password is not accepted",
        "the password is wrong since the update",
        "pass: 3 of 4 checks",
        "the api key page shows an error",
        "login loop. password, code, password, code",
        "the private key is under the mat",
        "Pneumonoultramicroscopicsilicovolcanoconiosis",
        "eyJust.kidding.friend",
        "my password is really annoying to type",
        "the password is case-sensitive, right?",
        "I need the password to access the portal",
        "the password was emailed to my old address",
        "Mein Passwort ist abgelaufen",
        "la contraseña es incorrecta",
        "username jsmith99 and password both fail",
        "password fails in Chrome120 on Windows11, error AUTH-4012",
        "password link expired after 24h",
        "I set my password to never expire",
    ],
)
def test_prose_about_passwords_passes(text: str) -> None:
    assert find(text) == []
    assert judge(Candidate(text)) == Keep()


def test_no_text_makes_a_search_slow() -> None:
    for piece in ("my password is ", "password (", "user a, ", "login a:b ", "Sunny1! ", "u: a p: ", "pass ", "memorable word "):
        find(piece * (8000 // len(piece)))
