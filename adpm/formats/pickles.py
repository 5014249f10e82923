"""Old ``.bin`` weights to safetensors, by a process of its own: ``adpm.runtime.unpickle``, which alone has torch.

What goes in and comes out are frames: 8 bytes of length, little-endian, then the content.
"""

from __future__ import annotations

import importlib.util
import io
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import BinaryIO, Final

from adpm import limits
from adpm.errors import AdapterError, UsageError

__all__ = ["read_frame", "unpickle", "write_frame"]

_MODULE: Final = "adpm.runtime.unpickle"


def unpickle(files: Mapping[str, bytes | bytearray | memoryview], *, source: str) -> dict[str, bytes]:
    """Each of ``files`` (name -> content of a ``.bin``) as safetensors. Cost: a new process that imports torch.

    Raises ``AdapterError`` (``pickle-refused``), ``UsageError`` (``extra-missing``).
    """
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            "extra-missing",
            f"{source} has pickled weights, and what converts them is not installed",
            cause="it needs torch and safetensors",
            hint="pip install 'adpm[torch]'",
        )
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", _MODULE],
            input=b"".join(write_frame(bytes(data)) for data in files.values()),
            capture_output=True,
            timeout=limits.UNPICKLE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _refused(source, f"it took longer than {limits.UNPICKLE_SECONDS:g} seconds") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _refused(source, lines[-1] if lines else f"the process ended with status {done.returncode}")
    stream = io.BytesIO(done.stdout)
    return {name: read_frame(stream) or b"" for name in files}


def _refused(source: str, why: str) -> AdapterError:
    return AdapterError(
        "pickle-refused",
        f"the pickled weights in {source} could not be converted",
        cause=why,
        hint="save the adapter with safetensors in the library that made it",
    )


def write_frame(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end."""
    prefix = stream.read(8)
    return stream.read(struct.unpack("<Q", prefix)[0]) if len(prefix) == 8 else None
