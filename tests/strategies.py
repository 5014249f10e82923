"""Hypothesis strategies for adpm's values: anything that a writer may be handed."""

from __future__ import annotations

import random
import string
import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from adpm import limits
from adpm.core.base import DIMENSIONS, BaseIdentity, Shape, Sketch
from adpm.core.composition import Block, Composition, Kind, leaves
from adpm.core.lock import Lock, LockedAdapter, LockedMember, LockedPackage
from adpm.core.moment import moment_of
from adpm.core.names import Alias, Channel, Digest, PackageName, parse_version
from adpm.core.release import Blob, Card, File, Listing, Method, Metric
from adpm.core.requirement import Requirement
from adpm.core.rules import RESOLUTIONS, Override, Rules
from adpm.core.source import GitSource, HubSource, PathSource, Source
from adpm.core.workspace import ROOT, qualified
from adpm.errors import UsageError

_WORD: Final = string.ascii_lowercase + string.digits


def _is_name(text: str) -> bool:
    try:
        PackageName.parse(text)
    except UsageError:
        return False
    return True


parts = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,6}){0,2}", fullmatch=True)
package_names = (
    st.lists(parts, min_size=1, max_size=limits.NAME_PARTS)
    .map("/".join)
    .filter(_is_name)  # reserved parts
    .map(PackageName.parse)
)
aliases = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True).map(Alias.parse)
registry_names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,12}", fullmatch=True)
digests = st.binary(max_size=8).map(Digest.of)
blobs = st.builds(Blob, digests, st.integers(0, limits.BLOB_BYTES))

_numbers = st.lists(st.integers(0, 10**6), min_size=1, max_size=5).map(lambda ns: ".".join(map(str, ns)))
_versions = st.builds(
    lambda epoch, release, pre, post, dev: f"{epoch}{release}{pre}{post}{dev}",
    st.sampled_from(["", "", "1!"]),
    _numbers,
    st.sampled_from(["", "", "a0", "b3", "rc12"]),
    st.sampled_from(["", "", ".post2"]),
    st.sampled_from(["", "", ".dev7"]),
)
versions = _versions.map(parse_version)


@st.composite
def specifier_sets(draw: st.DrawFn) -> SpecifierSet:
    out = []
    for _ in range(draw(st.integers(0, 4))):
        operator = draw(st.sampled_from(["==", "~=", ">=", ">", "!=", "<=", "<"]))
        version = str(draw(versions))
        if operator == "~=" and len(Version(version).release) < 2:
            version = f"{draw(st.integers(0, 9))}.{draw(st.integers(0, 9))}"
        if operator in ("==", "!=") and draw(st.booleans()):
            version = draw(_numbers) + ".*"
        out.append(operator + version)
    return SpecifierSet(",".join(out))


requirements = st.one_of(
    st.builds(Requirement, package_names, specifier_sets()),
    st.builds(lambda name, digest: Requirement(name, digest=digest), package_names, digests),
)
channels = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True).map(Channel.parse)
wanted_requirements = requirements | st.builds(lambda n, c: Requirement(n, channel=c), package_names, channels)
requirement_tuples = st.lists(requirements, max_size=4, unique_by=lambda r: r.name).map(
    lambda rs: tuple(sorted(rs, key=lambda r: r.name))
)

# Everything but what no text may hold: control characters besides tab and line feed, and lone surrogates.
texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\t\n"), min_size=1, max_size=30)


def _sample(seed: int) -> tuple[float, ...]:
    """Any finite float16 values; drawn from ``seed``, since hypothesis is slow to draw hundreds."""
    source = random.Random(seed)
    bits = [source.randint(0, 0x7BFF) | source.getrandbits(1) << 15 for _ in range(limits.SKETCH_SAMPLES)]
    return struct.unpack(f"<{len(bits)}e", struct.pack(f"<{len(bits)}H", *bits))


shapes = st.builds(
    lambda model_type, sizes: Shape(model_type, tuple(sorted(sizes.items()))),
    texts,
    st.dictionaries(st.sampled_from(sorted(DIMENSIONS)), st.integers(1, limits.INTEGER_MAX)),
)
sketches = st.builds(
    Sketch,
    st.sampled_from(["float64", "float32", "float16", "bfloat16"]),
    st.integers(0, 1 << 32).map(_sample),
)
bases = st.builds(BaseIdentity, st.none() | texts, st.none() | texts, st.none() | shapes, st.none() | sketches)

scores = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-limits.INTEGER_MAX, limits.INTEGER_MAX)
metrics = st.builds(Metric, texts, scores, st.none() | texts, st.none() | texts)
cards = st.builds(
    Card,
    name=package_names,
    version=versions,
    base=bases,
    method=st.builds(Method, st.sampled_from(["adapterhub", "peft"]), texts),
    requires=requirement_tuples,
    description=st.none() | texts,
    task=st.none() | st.sampled_from(["sentiment", "sentiment/sst-2", "nli/multi_nli"]),
    language=st.none() | st.sampled_from(["en", "pt-BR", "zh-Hant-TW"]),
    license=st.none() | st.sampled_from(["Apache-2.0", "MIT OR (GPL-2.0+ AND BSD-3-Clause)"]),
    metrics=st.lists(metrics, max_size=3).map(tuple),
    parents=st.lists(digests, max_size=3).map(tuple),
)

paths = st.lists(
    st.text("ABab01_", min_size=1, max_size=3).flatmap(lambda p: st.sampled_from([p, p + ".x", p + "-+1"])),
    min_size=1,
    max_size=3,
).map("/".join)


def _compatible(files: list[File]) -> bool:
    folded = [file.path.lower() for file in files]
    return not any(
        other == path or other.startswith(path + "/") for path in folded for other in folded if other is not path
    )


file_lists = (
    st.lists(st.builds(File, paths, blobs), max_size=5, unique_by=lambda f: f.path.lower())
    .filter(_compatible)
    .map(lambda files: tuple(sorted(files, key=lambda f: f.path)))
)

times = st.datetimes().map(lambda t: t.replace(microsecond=0).isoformat() + "Z")
listings = st.builds(
    Listing,
    name=st.just(PackageName("lang/en")),
    version=versions,
    manifest=st.builds(Blob, digests, st.integers(0, limits.OCI_MANIFEST_BYTES)),
    requires=requirement_tuples,
    base=bases,
    yanked=st.none() | st.just("") | texts,
    published=st.none() | times,
    license=st.sampled_from([None, "MIT", "Apache-2.0 OR GPL-3.0-only"]),
    metrics=st.lists(metrics, max_size=2).map(tuple),
)

_leaf = aliases.map(str) | package_names.map(str)


@st.composite
def compositions(draw: st.DrawFn, names: st.SearchStrategy[str] = _leaf, depth: int = 3) -> Composition:
    if depth == 0 or draw(st.booleans()):
        return draw(names)
    kind: Kind = draw(st.sampled_from(["stack", "fuse", "parallel", "split", "batch", "average", "skip"]))
    if kind == "skip":
        layers = draw(st.lists(st.integers(0, 100).map(float), min_size=1, max_size=3))
        return Block(kind, (draw(compositions(names, depth - 1)),), tuple(layers))
    inner = tuple(draw(st.lists(compositions(names, depth - 1), min_size=1, max_size=3)))
    if kind in ("split", "batch"):
        weights = tuple(float(draw(st.integers(1, limits.INTEGER_MAX))) for _ in inner)
    elif kind == "average":
        weights = tuple(
            draw(st.floats(min_value=0, max_value=float(limits.INTEGER_MAX), exclude_min=True)) for _ in inner
        )
    else:
        weights = ()
    return Block(kind, inner, weights)


lock_rules = st.builds(
    Rules,
    overrides=st.lists(requirements, max_size=2, unique_by=lambda r: r.name).map(
        lambda found: tuple(Override(r) for r in sorted(found, key=lambda r: r.name))
    ),
    exclude=st.just(()),
    resolution=st.sampled_from(RESOLUTIONS),
    licenses=st.sampled_from([None, (), ("Apache-2.0", "MIT")]),
    exclude_newer=st.sampled_from([None, "2026-01-31", "2026-01-31T12:00:00Z", "P7D"]),
)


@st.composite
def locked_sources(draw: st.DrawFn) -> Source:
    """Direct sources as a lock names them."""
    revision = draw(
        st.none() | st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True).filter(lambda t: ".." not in t)
    )
    commit = draw(st.from_regex(r"[0-9a-f]{40}", fullmatch=True))
    kind = draw(st.sampled_from(["path", "git", "hub"]))
    if kind == "path":
        return PathSource(draw(texts))
    if kind == "git":
        return GitSource("https://example.org/x.git", revision, draw(st.none() | st.just("a/b")), commit)
    return HubSource("Owner/Some_Name", revision, commit)


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    names = draw(st.lists(package_names, max_size=4, unique=True))
    packages: dict[str, LockedPackage] = {}
    for name in names:
        others = draw(st.lists(st.sampled_from(names), max_size=2, unique=True))
        source = draw(st.none() | locked_sources())
        packages[name] = LockedPackage(
            name=name,
            version=draw(versions),
            registry=draw(registry_names) if source is None else None,
            manifest=draw(blobs),
            card=draw(blobs),
            files=draw(file_lists),
            requires=tuple(Requirement(other, draw(specifier_sets())) for other in sorted(others)),
            source=source,
        )
    adapters = {}
    if names:
        for alias in draw(st.lists(aliases, max_size=3, unique=True)):
            requirement = Requirement(draw(st.sampled_from(names)), draw(specifier_sets()))
            adapters[alias] = LockedAdapter(requirement, draw(st.none() | registry_names))
    lock = Lock(draw(st.none() | bases), adapters, {}, packages)
    known = sorted({name for name, _ in lock.names()})
    compose = {}
    if known:
        compose = draw(st.dictionaries(aliases.map(str), compositions(st.sampled_from(known)), max_size=2))
    assert all(leaf in known for composition in compose.values() for leaf in leaves(composition))
    rules = draw(lock_rules)
    moment = None if rules.exclude_newer is None else moment_of(rules.exclude_newer, datetime(2026, 3, 1, tzinfo=UTC))
    whole = Lock(lock.base, adapters, compose, packages, rules, moment)
    return _in_a_workspace(draw, whole) if draw(st.booleans()) else whole


def _in_a_workspace(draw: st.DrawFn, lock: Lock) -> Lock:
    """The same adapters, each asked for by some member."""
    members = draw(st.lists(st.sampled_from([ROOT, "a", "models/en", "tools/x y"]), min_size=1, unique=True))
    adapters = {qualified(draw(st.sampled_from(members)), alias): adapter for alias, adapter in lock.adapters.items()}
    return replace(lock, base=None, adapters=adapters, compose={}, members=dict.fromkeys(members, LockedMember()))
