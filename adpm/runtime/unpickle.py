"""Old ``.bin`` weights to safetensors, in a process of its own that can do no more than that.

``python -m adpm.runtime.unpickle`` reads frames (``formats/pickles.py``, which also starts it) of pickles from standard
input and writes one frame of safetensors for each. It loads with ``weights_only``, so a pickle can name tensors and
containers and nothing else, and its memory is bounded.
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
from pathlib import Path

import torch
from safetensors.torch import save

from adpm import limits
from adpm.formats.pickles import read_frame, write_frame

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
    while (data := read_frame(sys.stdin.buffer)) is not None:
        _bound_memory(len(data))
        try:
            out = _convert(data)
        except REFUSED as error:
            sys.stderr.write(f"{str(error).splitlines()[0] if str(error) else type(error).__name__}\n")
            return _STATUS
        sys.stdout.buffer.write(write_frame(out))
    return 0


if __name__ == "__main__":
    sys.exit(_main())
