"""Old ``.bin`` weights to safetensors, in a process of its own that can do no more than that.

``python -m adpm.runtime.unpickle`` reads frames (8 bytes of length, little-endian, then a pickle) from standard input
and writes one frame of safetensors for each. It loads with ``weights_only``, so a pickle can name tensors and
containers and nothing else, and its memory is bounded.
"""

from __future__ import annotations

import io
import pickle
import resource
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save

from adpm import limits
from adpm.errors import AdapterError
from adpm.runtime.weights import Buffer

__all__ = ["unpickle"]

_STATUS = 3
# What torch.load and the checks raise for a file that is none of ours.
REFUSED = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RuntimeError,
    EOFError,
    MemoryError,
    OSError,
    pickle.UnpicklingError,
)


def unpickle(files: Mapping[str, Buffer], *, source: str) -> dict[str, bytes]:
    """Each of ``files`` (name -> content of a ``.bin``) as safetensors. Cost: a new process that imports torch.

    Raises ``AdapterError`` (``pickle-refused``).
    """
    frames = b"".join(part for data in files.values() for part in (struct.pack("<Q", len(data)), bytes(data)))
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", __name__],
            input=frames,
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
    return {name: _frame(stream) or b"" for name in files}


def _refused(source: str, why: str) -> AdapterError:
    return AdapterError(
        "pickle-refused",
        f"the pickled weights in {source} could not be converted",
        cause=why,
        hint="save the adapter with safetensors in the library that made it",
    )


def _frame(stream: BinaryIO) -> bytes | None:
    prefix = stream.read(8)
    return stream.read(struct.unpack("<Q", prefix)[0]) if len(prefix) == 8 else None


def _convert(data: bytes) -> bytes:
    value = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items()
    ):
        raise ValueError("the file holds something other than named tensors")
    return save({name: tensor.detach().clone().contiguous() for name, tensor in value.items()})


def _bound_memory(size: int) -> None:
    pages = Path("/proc/self/statm")
    if pages.exists():
        used = int(pages.read_text("ascii").split()[0]) * resource.getpagesize()
        bound = used + 4 * size + limits.UNPICKLE_BYTES
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))


def _main() -> int:
    torch.set_num_threads(1)
    while (data := _frame(sys.stdin.buffer)) is not None:
        _bound_memory(len(data))
        try:
            out = _convert(data)
        except REFUSED as error:
            sys.stderr.write(f"{str(error).splitlines()[0] if str(error) else type(error).__name__}\n")
            return _STATUS
        sys.stdout.buffer.write(struct.pack("<Q", len(out)) + out)
    return 0


if __name__ == "__main__":
    sys.exit(_main())
