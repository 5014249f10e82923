"""From a URL to a registry. A backend is imported when one of its registries is opened, not before."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final, cast

from adpm.errors import UsageError
from adpm.net.offline import refuse_if_offline
from adpm.net.url import shown
from adpm.registry.port import Opener, Registry

__all__ = ["open_registry"]

_HERE: Final = frozenset({"", "file", "memory"})  # kinds that need no network
_OPENERS: Final = {
    "": "adpm.registry.directory:open_directory",
    "file": "adpm.registry.directory:open_directory",
    "http": "adpm.registry.web:open_web",
    "https": "adpm.registry.web:open_web",
    "oci": "adpm.registry.oci_open:open_oci",
    "oci+http": "adpm.registry.oci_open:open_oci",
    "hf": "adpm.registry.hub_open:open_hub",
    "s3": "adpm.registry.objects:open_objects",
    "gs": "adpm.registry.objects:open_objects",
    "az": "adpm.registry.objects:open_objects",
    "abfs": "adpm.registry.objects:open_objects",
    "memory": "adpm.registry.objects:open_objects",
    "sftp": "adpm.registry.objects:open_objects",
}

_MIRROR_OPENERS: Final = {"http": "adpm.registry.web:open_mirror", "https": "adpm.registry.web:open_mirror"}


def open_registry(name: str, url: str, base_dir: Path, cache: Path | None = None, *, mirror: bool = False) -> Registry:
    """The registry at ``url``, which the project calls ``name``. Touches neither disk nor network.

    A ``mirror`` is waited for less patiently, where that makes a difference.

    ``url`` is a path (relative to ``base_dir``; ``~`` is the home directory), ``file://``, ``http://``, ``https://``,
    ``oci://`` or ``oci+http://``, ``hf://``, of an object store: ``s3://``, ``gs://``, ``az://``, ``abfs://``,
    ``sftp://`` (``memory://`` in this process), or of a kind that a package adds (``adpm.registry.plugins``). Raises
    ``UsageError`` (``registry-url-unsupported``, ``url-invalid``, ``extra-missing``), ``RegistryError``
    (``registry-plugin-broken``) and, where ``ADPM_OFFLINE`` is set and it is no directory, ``NetworkError``
    (``offline``).
    """
    scheme = url.partition(":")[0].lower() if "://" in url else ""
    if scheme not in _HERE:
        refuse_if_offline(f"registry {name} ({shown(url)})")
    path = (_MIRROR_OPENERS.get(scheme) if mirror else None) or _OPENERS.get(scheme)
    if path is not None:
        module, _, function = path.partition(":")
        opener = cast(Opener, getattr(importlib.import_module(module), function))
        return opener(name, url, base_dir, cache)
    from adpm.registry.plugins import open_by_plugin  # noqa: PLC0415 - what tells what is installed takes long to import

    registry = open_by_plugin(scheme, name, url, base_dir, cache)
    if registry is None:
        raise UsageError(
            "registry-url-unsupported",
            f"registry {name} has a url that this adpm can't open: {shown(url)}",
            cause=f"it knows no {scheme}:// registries",
            hint="supported are a directory (../registry, file:///srv/registry), a web server (https://example.org/x), "
            "an object store (s3://bucket/x, gs://, az://), an SFTP server (sftp://host/x), an OCI registry "
            "(oci://example.org/x), the Hugging Face Hub (hf://OWNER), and what installed packages add",
        )
    return registry
