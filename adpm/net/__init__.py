"""HTTP: one pool of connections, with limits, resume, retries, redirects and credentials per origin.

Nothing here knows what a registry is. urllib3 is imported here and nowhere else; import this package only when the
network is needed.
"""

from __future__ import annotations

from adpm.net.client import Client, Document
from adpm.net.patience import Patience

__all__ = ["Client", "Document", "Patience"]
