"""From ``oci://host/prefix`` to a registry, and to the login for it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from adpm.errors import UsageError
from adpm.net.bearer import RegistryAuthority
from adpm.net.client import Client
from adpm.net.credentials import Login, anonymous, environment_login, netrc_login
from adpm.net.docker import docker_login
from adpm.net.kept import kept_login
from adpm.net.url import checked, host_port, shown
from adpm.registry.cache import DocumentCache
from adpm.registry.distribution import Distribution
from adpm.registry.oci import OciRegistry

__all__ = ["open_api", "open_oci"]

_PREFIX: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
_OURS: Final = (environment_login, kept_login)
_HUB: Final = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_HUB_LOGIN: Final = "index.docker.io"  # what docker calls its own registry in its config


def open_oci(name: str, url: str, base_dir: Path, cache: Path | None) -> OciRegistry:  # noqa: ARG001 - an Opener
    """The registry at ``oci://HOST[:PORT][/PREFIX]``: over HTTPS, on this machine (as docker does it) over HTTP;
    ``oci+http://`` is HTTP anywhere. Raises ``UsageError`` (``url-invalid``).
    """
    api, prefix = open_api(url)
    kept = None if cache is None else DocumentCache(cache)
    return OciRegistry(name, shown(url), api, f"{prefix}/" if prefix else "", kept)


def open_api(url: str, login: Callable[[], Login | None] | None = None) -> tuple[Distribution, str]:
    """The API that ``url`` names, and the prefix. ``login`` is asked in place of what is found for the host."""
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
    insecure = scheme.lower() == "oci+http" or _is_here(parts.hostname or "")
    protocol = "http" if insecure else "https"
    root = f"{protocol}://{_HUB.get(parts.netloc, parts.netloc)}"
    names = [host_port(f"{protocol}://{parts.netloc}"), host_port(root)]  # they differ for Docker's own registry
    found = partial(_login, names, _HUB_LOGIN if parts.netloc in _HUB else parts.netloc)
    authority = RegistryAuthority(root, login or found, Client(credentials=anonymous))
    return Distribution(root, Client(authority=authority)), prefix


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _login(names: Sequence[str], docker_name: str) -> Login | None:
    """The login of the environment, else of ``adpm login``, of docker, of ``~/.netrc``."""
    asked: list[Callable[[], Login | None]] = [partial(look, name) for look in _OURS for name in names]
    asked += [partial(docker_login, docker_name), partial(netrc_login, names[0])]
    return next((login for look in asked if (login := look()) is not None), None)
