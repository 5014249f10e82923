"""Which certificates are trusted: the machine's, or those that the environment names."""

from __future__ import annotations

import os
import ssl
from typing import Final

from adpm.errors import UsageError

__all__ = ["CERTIFICATE_HINT", "trusting"]

_FILES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_DIRECTORY: Final = "SSL_CERT_DIR"
CERTIFICATE_HINT: Final = (
    "if the server has a CA of its own, set SSL_CERT_FILE to the file (PEM) of that CA's certificate"
)


def trusting() -> ssl.SSLContext:
    """A context that trusts the file in the first of ``SSL_CERT_FILE``, ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE`` that
    is set, and the directory in ``SSL_CERT_DIR``; where none is, what the machine trusts.

    Raises ``UsageError`` (``certificates-invalid``): a typing error there must not look like a hostile server.
    """
    variable = next((name for name in _FILES if os.environ.get(name)), None)
    file = os.path.expanduser(os.environ[variable]) if variable else None
    directory = os.environ.get(_DIRECTORY) or None
    if variable in _FILES[1:] and file is not None and os.path.isdir(file):
        file, directory = None, file  # requests takes a directory there too
    if directory is not None and not os.path.isdir(directory):
        raise _unusable(_DIRECTORY, directory, "there is no such directory")
    try:
        return ssl.create_default_context(cafile=file, capath=directory)
    except OSError as error:  # an SSLError, which ends so, says that the file holds no certificate
        why = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror or str(error)
        raise _unusable(variable or _DIRECTORY, file or "", why) from error


def _unusable(variable: str, path: str, why: str) -> UsageError:
    return UsageError(
        "certificates-invalid",
        f"${variable} names no certificates: {path}",
        cause=why,
        hint=f"correct it, or unset {variable} to trust what this machine trusts",
    )
