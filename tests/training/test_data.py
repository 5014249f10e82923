"""What becomes of a mail before anyone sees it."""

from __future__ import annotations

import email.policy
from email.message import EmailMessage
from email.parser import Parser

import pytest

from tests.training import data

MAIL = """From: "Ada Lovelace" <ada@example.org>
To: list@example.org
Subject: Re: [ListName] engines
Content-Type: {kind}

{body}"""


def message(body: str, kind: str = "text/plain") -> EmailMessage:
    return Parser(EmailMessage, policy=email.policy.default).parsestr(MAIL.format(body=body, kind=kind))


def words(body: str) -> list[str]:
    return [line for line in data._own_words(body) if line]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("write to ada@example.org now", "write to [address] now"),
        ("write to <ada at example dot org> now", "write to <[address]> now"),
        ("mailto:ada.l+x@mail.example.org", "[address]"),
        ("see http://example.org/a?b=c or www.example.net", "see [link] or [link]"),
        ("call (020) 7946-0958 today", "call [number] today"),
        ("for $49 in 2002", "for $49 in 2002"),
        ("thanks to Ada Lovelace for it", "thanks to [name] for it"),
        ("fish &amp; chips<br />twice \\ufffd=09", "fish & chips twice"),
    ],
)
def test_what_names_a_person_or_a_place_is_masked(text: str, clean: str) -> None:
    assert data._tidy(text, frozenset({"ada", "lovelace"})) == clean


def test_a_text_is_cut_between_words() -> None:
    text = data._tidy("word " * 200, frozenset())
    assert len(text) <= data.CHARACTERS
    assert text.endswith("word")


def test_only_the_senders_own_words_stay() -> None:
    body = "On Monday, somebody wrote:\n> their words\nmine\nFrom: ada\nRegards,\nAda\n--\nsignature"
    assert words(body) == ["mine"]


def test_markup_is_read_as_a_reader_sees_it() -> None:
    html = "<html><style>p {}</style><p>One</p><script>x()</script>two &amp; three</html>"
    assert data._body(message(html, "text/html")).split() == ["One", "two", "&", "three"]


def test_subjects_lose_the_names_of_lists() -> None:
    assert data._subject(message("")) == "engines"


def test_names_come_from_headers_and_spare_words() -> None:
    found = data._names([message("")], ["Ada met a lovelace, lovelace, Lovelace"])
    assert found == frozenset({"ada"})
