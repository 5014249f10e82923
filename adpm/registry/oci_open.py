"""From ``oci://host/prefix`` to a registry, and to the login for it."""

from __future__ import annotations

import ipaddress
import re
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from adpm.errors import UsageError
from adpm.net.bearer import RegistryAuthority
from adpm.net.client import Client
from adpm.net.credentials import Login, anonymous, netrc_login
from adpm.net.docker import docker_login
from adpm.net.url import checked, shown
from adpm.registry.cache import DocumentCache
from adpm.registry.distribution import Distribution
from adpm.registry.oci import OciRegistry

__all__ = ["open_oci"]

_PREFIX: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_HUB: Final = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_HUB_LOGIN: Final = "index.docker.io"  # what docker calls its own registry in its config


def open_oci(name: str, url: str, base_dir: Path, cache: Path | None) -> OciRegistry:  # noqa: ARG001 - an Opener
    """The registry at ``oci://HOST[:PORT][/PREFIX]``: over HTTPS, on this machine (as docker does it) over HTTP;
    ``oci+http://`` is HTTP anywhere. Raises ``UsageError`` (``url-invalid``).
    """
    scheme, _, rest = url.partition("://")
    plain = checked(f"http://{rest}")
    parts = urlsplit(plain)
    prefix = parts.path.strip("/")
    if parts.query or parts.fragment or (prefix and not _PREFIX.match(prefix)):
        raise UsageError(
            "url-invalid",
            f"{shown(url)!r} is no address of an OCI registry",
            hint="write it as oci://host/prefix: the prefix in small letters, without a query, fragment or tag",
        )
    host = _HUB.get(parts.netloc, parts.netloc)
    insecure = scheme.lower() == "oci+http" or _is_here(parts.hostname or "")
    root = f"{'http' if insecure else 'https'}://{host}"
    login = partial(_login, _HUB_LOGIN if parts.netloc in _HUB else parts.netloc)
    authority = RegistryAuthority(root, login, Client(credentials=anonymous))
    kept = None if cache is None else DocumentCache(cache)
    api = Distribution(root, Client(authority=authority))
    return OciRegistry(name, shown(url), api, f"{prefix}/" if prefix else "", kept)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _login(host: str) -> Login | None:
    """Docker's login for ``host``, else that of ``~/.netrc``."""
    return docker_login(host) or netrc_login(urlsplit(f"//{host}").hostname or "")
