"""The contract as a third party runs it: a backend that an installed package adds, and what is said of broken ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from adpm.errors import AdpmError, NetworkError, RegistryError, UsageError
from adpm.registry.open import open_registry
from adpm.registry.placed import PlacedRegistry
from adpm.registry.records import MARKER, MARKER_DATA
from adpm.testing import Pair, WriteContract, make

_PLUGIN = Path(__file__).parents[1] / "plugin"


def install(site: Path, package: str, entry_points: str, code: str = "") -> None:
    """What ``pip install`` leaves of a package with one module."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[adpm.registries]\n{entry_points}\n")
    (site / f"{package}.py").write_text(code)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    return site


class TestPlugin(WriteContract):
    @pytest.fixture
    def pair(self, site: Path, tmp_path: Path) -> Pair:
        code = (_PLUGIN / "adpm_sqlite.py").read_text(encoding="utf-8")
        install(site, "adpm_sqlite", "sqlite = adpm_sqlite:open_sqlite", code)
        sys.modules.pop("adpm_sqlite", None)
        registry = open_registry("file", f"sqlite://{tmp_path}/adapters.db", tmp_path)
        assert isinstance(registry, PlacedRegistry)
        place = registry._place.writable()
        assert not isinstance(place, str)
        place.create(MARKER, [MARKER_DATA])
        return Pair(registry, registry)

    @pytest.mark.usefixtures("pair")
    def test_its_own_errors_are_its_own(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as caught:
            open_registry("file", "sqlite://", tmp_path)
        assert caught.value.code == "url-invalid"

    def test_it_can_be_checked(self, pair: Pair) -> None:
        found = {ability.name: ability.ok for ability in pair.publisher.check(write=True)}
        assert found["one winner"]
        assert found["compare and swap"]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nothing_of_this_name", "ModuleNotFoundError"),
        ("this is no Python", "SyntaxError"),
        ("raise SystemError('at import')", "at import"),
        ("def other(): pass", "AttributeError"),
        ("def opened(): pass", "TypeError"),
        ("def opened(*_): raise KeyError('token')", "KeyError"),
        ("def opened(*_): return 7", "gave a int"),
        ("opened = None", "TypeError"),
    ],
)
def test_a_broken_plugin_is_one_clear_error(site: Path, tmp_path: Path, code: str, why: str) -> None:
    install(site, "broken_plugin", "broken = broken_plugin:opened", code)
    sys.modules.pop("broken_plugin", None)
    with pytest.raises(RegistryError, match=why) as caught:
        open_registry("x", "broken://me:s3cret@host/x", tmp_path)
    assert caught.value.code == "registry-plugin-broken"
    assert "broken_plugin" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_two_packages_that_want_one_scheme(site: Path, tmp_path: Path) -> None:
    install(site, "first_plugin", "both = first_plugin:opened")
    install(site, "second_plugin", "both = second_plugin:opened")
    with pytest.raises(RegistryError, match="first_plugin and second_plugin"):
        open_registry("x", "both://x", tmp_path)


def test_own_kinds_are_not_taken_over(site: Path, tmp_path: Path) -> None:
    install(site, "thief", "file = thief:opened\nhttps = thief:opened", "def opened(*_): raise SystemExit(1)")
    open_registry("here", (tmp_path / "r").as_uri(), tmp_path).publish(make(tmp_path), init=True)


@pytest.mark.parametrize("url", ["https://example.org", "s3://bucket/x", "oci://example.org/x", "unknown://x"])
def test_offline_nothing_far_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("ADPM_OFFLINE", "1")
    with pytest.raises(NetworkError) as caught:
        open_registry("far", url, tmp_path)
    assert caught.value.code == "offline"
    assert url in str(caught.value)
    open_registry("here", str(tmp_path / "r"), tmp_path).publish(make(tmp_path), init=True)
    monkeypatch.setenv("ADPM_OFFLINE", "0")
    with pytest.raises(AdpmError) as refused:
        open_registry("x", "unknown://x", tmp_path)
    assert refused.value.code == "registry-url-unsupported"
