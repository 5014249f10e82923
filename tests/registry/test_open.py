"""URLs of registries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adpm.core.names import PackageName
from adpm.errors import UsageError
from adpm.registry.open import open_registry
from adpm.testing.making import make


@pytest.mark.parametrize(
    "form", ["with space/r", "./with space/r", "{absolute}", "file://{quoted}", "file://localhost{quoted}"]
)
def test_directories(tmp_path: Path, form: str) -> None:
    root = tmp_path / "with space" / "r"
    url = form.format(absolute=root, quoted=str(root).replace(" ", "%20"))
    open_registry("here", url, tmp_path).publish(make(tmp_path), init=True)
    assert open_registry("here", str(root), Path("/")).packages() == (PackageName("text/sst-2"),)


def test_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    open_registry("here", "~/r", Path("/nowhere")).publish(make(tmp_path), init=True)
    assert (tmp_path / "r" / "adpm-registry.json").is_file()


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("s3://me:secret@bucket/x", "url-invalid"),
        ("s3://bucket/x?token=secret", "url-invalid"),
        ("s3://bucket/../x", "url-invalid"),
        ("s3://bucket//x", "url-invalid"),
        ("s3:///x", "url-invalid"),
        ("S3://", "url-invalid"),
        ("git+https://example.org/x", "registry-url-unsupported"),
        ("FTP://example.org", "registry-url-unsupported"),
        ("file://server/share", "url-invalid"),
        ("file://", "url-invalid"),
        ("http://", "url-invalid"),
        ("https://me:secret@example.org/", "url-invalid"),
        ("https://example.org/?token=secret", "url-invalid"),
        ("https://example.org/#x", "url-invalid"),
    ],
)
def test_what_can_not_be_opened(tmp_path: Path, url: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_registry("there", url, tmp_path)
    assert caught.value.code == code
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_a_chain_of_directories_needs_no_network_library() -> None:
    code = (
        "import sys; from pathlib import Path; from adpm.registry.chain import Chain; "
        "from adpm.core.manifest import RegistrySource; "
        "Chain.of([RegistrySource('a', '.'), RegistrySource('b', 'http://x')], Path()).registry('a'); "
        "sys.exit('http.client' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
