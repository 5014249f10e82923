"""Which ``Authorization`` header a host gets."""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Callable
from pathlib import Path

from adpm.errors import UsageError

__all__ = ["Credentials", "from_netrc"]

Credentials = Callable[[str], str | None]
"""Host name to the value of its ``Authorization`` header, or None."""


def from_netrc(host: str) -> str | None:
    """Basic credentials from ``$NETRC`` or ``~/.netrc``; None where the file or an entry for ``host`` is missing.

    Raises ``UsageError`` (``netrc-invalid``).
    """
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        found = netrc.netrc(str(path)).authenticators(host)
    except FileNotFoundError:
        return None
    except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "netrc-invalid", f"could not read {path}", cause=str(error), hint="fix that file, or move it away"
        ) from error
    if found is None:
        return None
    login, _, password = found
    return "Basic " + base64.b64encode(f"{login}:{password or ''}".encode()).decode("ascii")
