"""``adpm registry check``: what is measured of real servers, and that nothing stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adpm.registry.records import MARKER, MARKER_DATA
from tests.cli.conftest import Workplace, forget_logins
from tests.registry import davs, oci, servers, stores


def checked(work: Workplace, name: str, *options: str) -> dict[str, Any]:
    found = work.adpm("registry", "check", name, "--json", *options).json
    assert found["schema"] == "adpm.registry-check/1"
    return {ability["name"]: ability["ok"] for ability in found["abilities"]}


WRITES = {"writes": True, "create only": True, "listing of writes": True, "one winner": True}


@pytest.fixture(autouse=True)
def _no_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))


def marked(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / MARKER).write_bytes(MARKER_DATA)
    return directory


def test_a_directory(work: Workplace) -> None:
    root = marked(work.root / "registry")
    assert checked(work, "../registry") == {"registry": True, "listing": True, "writes": None}
    assert [path.name for path in root.rglob("*")] == [MARKER]
    found = checked(work, "../registry", "--write")
    assert found == {"registry": True, "listing": True, **WRITES, "compare and swap": True}
    assert [path.name for path in root.rglob("*") if path.is_file()] == [MARKER]
    work.start()
    ran = work.adpm("registry", "check", "here")
    assert "writes             -    not tried" in ran.out


def test_a_web_server(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    root = marked(work.root / "registry")
    reads = {"reachable": True, "TLS": False, "reads": True, "registry": True, "listing": False, "writes": False}
    with servers.nginx(root, work.root / "nginx") as url:
        assert checked(work, url, "--write") == {
            **reads,
            "login": None,
            "ETag": True,
            "ranges": True,
            "gzip": True,
        }
    with servers.plain(root) as url:
        assert checked(work, url) == {**reads, "login": None, "ETag": False, "ranges": False, "gzip": None}
    with servers.nginx(root, work.root / "n2", servers.basic_auth(work.root, "me", "s3cret")) as url:
        ran = work.adpm("registry", "check", url, status=4)
        assert "strangers are asked for Basic; there is no login for it" in ran.out
        name = url.removeprefix("http://").replace(".", "_").replace(":", "_")
        monkeypatch.setenv(f"ADPM_USER_{name}", "me")
        monkeypatch.setenv(f"ADPM_PASSWORD_{name}", "s3cret")
        forget_logins()
        ran = work.adpm("registry", "check", url)
        assert f"you come as user 'me' (from $ADPM_PASSWORD_{name})" in ran.out
        assert "s3cret" not in ran.out + ran.err


def test_web_dav(work: Workplace) -> None:
    with davs.apache() as server:
        url, directory = server.place()
        marked(directory)
        found = checked(work, url, "--write")
        assert found["compare and swap"] is False
        assert {name: found[name] for name in ("writes", "create only", "listing of writes")} == {
            "writes": True,
            "create only": True,
            "listing of writes": True,
        }
        assert found["If-None-Match: *"]
        assert found["If-Match"]
        assert sorted(path.name for path in directory.rglob("*") if path.is_file()) == [MARKER, "probe"]


@pytest.mark.parametrize("kind", [pytest.param("moto", marks=pytest.mark.slow), "rclone"])
def test_an_object_store(work: Workplace, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = {"moto": stores.moto, "rclone": stores.rclone}[kind]
    (tmp_path / "server").mkdir()
    with start(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        server.client().put_object(Bucket="adpm", Key=f"r/{MARKER}", Body=MARKER_DATA)
        found = checked(work, "s3://adpm/r", "--write")
        assert found["writes"]
        assert found["compare and swap"] is (kind == "moto")
        assert found["one winner"] or kind != "moto"  # without conditions, too, one of eight may be alone for once
        if kind == "moto":
            listed = server.client().list_objects_v2(Bucket="adpm", Prefix="r/")["Contents"]
            left = {entry["Key"] for entry in listed}
        else:  # rclone goes on listing an object that several wrote at once, long after its file was removed
            data = tmp_path / "server" / "data" / "adpm"
            left = {str(path.relative_to(data)) for path in (data / "r").rglob("*") if path.is_file()}
        assert left <= {f"r/{MARKER}", "r/.adpm/probe"}


def test_an_oci_registry(work: Workplace) -> None:
    wanted = {
        "reachable": True,
        "TLS": False,
        "login": None,
        "reads": True,
        "listing": True,
        "create only": False,
        "writes": True,
    }
    with oci.docker_registry(work.root / "oci") as host:
        assert checked(work, f"oci://{host}/team", "--write") == wanted
        work.adpm("publish", work.package("text/sst-2", "1.0"), "--registry", f"oci://{host}/team")
        assert checked(work, f"oci://{host}/team", "--write") == wanted | {"attachments": None}


def test_what_can_not_be_reached(work: Workplace) -> None:
    assert "network-failed" in work.adpm("registry", "check", "http://127.0.0.1:1/x", status=7).err
    assert "registry-not-found" in work.adpm("registry", "check", "../nothing", status=5).err
