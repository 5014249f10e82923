"""From a URL to a registry. A backend is imported when one of its registries is opened, not before."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from adpm.errors import UsageError
from adpm.net.url import shown
from adpm.registry.port import Registry

__all__ = ["Opener", "open_registry"]

Opener = Callable[[str, str, Path, Path | None], Registry]
"""(name, URL, the directory that relative paths start from, where documents may be cached) to a registry."""

_OPENERS: Final = {
    "": "adpm.registry.directory:open_directory",
    "file": "adpm.registry.directory:open_directory",
    "http": "adpm.registry.web:open_web",
    "https": "adpm.registry.web:open_web",
    "oci": "adpm.registry.oci_open:open_oci",
    "oci+http": "adpm.registry.oci_open:open_oci",
    "s3": "adpm.registry.objects:open_objects",
    "gs": "adpm.registry.objects:open_objects",
    "az": "adpm.registry.objects:open_objects",
    "abfs": "adpm.registry.objects:open_objects",
    "memory": "adpm.registry.objects:open_objects",
    "sftp": "adpm.registry.objects:open_objects",
}


def open_registry(name: str, url: str, base_dir: Path, cache: Path | None = None) -> Registry:
    """The registry at ``url``, which the project calls ``name``. Touches neither disk nor network.

    ``url`` is a path (relative to ``base_dir``; ``~`` is the home directory), ``file://``, ``http://``, ``https://``,
    ``oci://`` or ``oci+http://``, or of an object store: ``s3://``, ``gs://``, ``az://``, ``abfs://``, ``sftp://``
    (``memory://`` in this process). Raises ``UsageError`` (``registry-url-unsupported``, ``url-invalid``,
    ``extra-missing``).
    """
    scheme = url.partition(":")[0].lower() if "://" in url else ""
    if scheme not in _OPENERS:
        raise UsageError(
            "registry-url-unsupported",
            f"registry {name} has a url that this adpm can't open: {shown(url)}",
            cause=f"it knows no {scheme}:// registries",
            hint="supported are a directory (../registry, file:///srv/registry), a web server (https://example.org/x), "
            "an object store (s3://bucket/x, gs://, az://), an SFTP server (sftp://host/x) "
            "and an OCI registry (oci://example.org/x)",
        )
    module, _, function = _OPENERS[scheme].partition(":")
    opener = cast("Opener", getattr(importlib.import_module(module), function))
    return opener(name, url, base_dir, cache)
