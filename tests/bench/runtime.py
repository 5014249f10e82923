"""What the runtime costs on a BERT-base, one thread: `python tests/bench/runtime.py [ROUNDS]`.

Forward passes are CPU times as ratios to the bare model's, measured interleaved round by round: the median of the
rounds' ratios and the best. Reading is 20 adapters into the model beside `load_file` and copy of the same bytes.
Weights are random; the sizes are those of BERT-base.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

import adpm

READ = 20


def bert() -> Any:
    model: Any = BertModel(BertConfig())
    return model.eval()


def cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def forward(model: Any, rows: int, tokens: int) -> Callable[[], object]:
    ids = torch.randint(3, 30_000, (rows, tokens))
    mask = torch.ones_like(ids)

    def run() -> object:
        with torch.inference_mode():
            return model(input_ids=ids, attention_mask=mask)

    return run


def compare(model: Any, compositions: list[str], rows: int, tokens: int, rounds: int) -> None:
    run = forward(model, rows, tokens)
    ratios: dict[str, list[float]] = {composition: [] for composition in compositions}
    run()
    for _ in range(rounds):
        for composition, found in ratios.items():
            model.adpm.activate(None)
            before = cpu(run)
            model.adpm.activate(composition)
            adapted = cpu(run)
            model.adpm.activate(None)
            after = cpu(run)
            found.append(adapted / min(before, after))
    for composition, found in ratios.items():
        median, best = statistics.median(found), min(found)
        print(f"forward B{rows} x T{tokens:<3} {composition:<38} median {median:.3f}  best {best:.3f}")


def switch(model: Any, rounds: int) -> None:
    handle = model.adpm
    for name in handle.names:
        handle.activate(name)
    names = [name for name in handle.names if name.startswith("pf")]
    found = []
    for _ in range(rounds):
        for name in names:
            start = time.perf_counter()
            handle.activate(name)
            found.append(time.perf_counter() - start)
    median = statistics.median(found) * 1e3
    print(f"switch between {len(names)} Pfeiffers of {len(handle.names)} adapters: {median:.4f} ms")


def read(directories: list[Path], kind: str, rounds: int) -> None:
    weights = [next(directory.glob("adapter*.safetensors")) for directory in directories]
    size = sum(path.stat().st_size for path in weights)
    ours: list[float] = []
    limit: list[float] = []
    first: list[float] = []
    last: list[float] = []
    for _ in range(rounds):
        model = bert()
        handle = adpm.attach(model)
        start = time.perf_counter()
        for number, directory in enumerate(directories):
            before = time.perf_counter()
            handle.read(directory, name=f"a{number}")
            (first if number == 0 else last).append(time.perf_counter() - before)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        for path in weights:
            for tensor in load_file(path).values():
                tensor.clone()
        limit.append(time.perf_counter() - start)
    print(
        f"read {len(directories)} {kind} ({size / 1e6:.0f} MB): {min(ours) * 1e3:.1f} ms, "
        f"{min(ours) / min(limit):.2f}x load_file and copy ({min(limit) * 1e3:.1f} ms); "
        f"the first {min(first) * 1e3:.1f} ms, a later one {min(last) * 1e3:.1f} ms"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = bert()
    handle = adpm.attach(model)
    for number in range(READ):
        handle.add(f"pf{number}", "pfeiffer")
        handle.add(f"lo{number}", "lora")
    handle.add("ho", "houlsby")
    handle.add("pa", "par_bn", reduction_factor=16)
    for parameter in handle.parameters():
        parameter.data.normal_(std=0.02)
    with tempfile.TemporaryDirectory() as found:
        directories: dict[str, list[Path]] = {"Pfeiffers": [], "LoRAs": []}
        for number in range(READ):
            for kind, name, format_ in (("Pfeiffers", f"pf{number}", "adapterhub"), ("LoRAs", f"lo{number}", "peft")):
                directory = Path(found) / name
                handle.save(name, directory, format=format_)  # type: ignore[arg-type]  # one of the two
                directories[kind].append(directory)
        for kind, places in directories.items():
            read(places, kind, max(3, rounds // 5))
    switch(model, rounds)
    handle.add_fusion(["pf0", "pf1", "pf2"])
    for parameter in handle.fusions.parameters():
        parameter.data.normal_(std=0.02)
    compositions = ["pf0", "lo0", "stack(pf0, pf1)", "ho", "pa", "fuse(pf0, pf1, pf2)", "parallel(pf0, pf1, pf2)"]
    divided = ["batch(pf0: 2, pf1: 2, pf2: 2, pf3: 2)", "batch(lo0: 2, lo1: 2, lo2: 2, lo3: 2)"]
    for rows, tokens in ((8, 32), (1, 16)):
        more = divided if rows == 8 else []
        compare(model, [*compositions, *more], rows, tokens, rounds if rows == 8 else 3 * rounds)


if __name__ == "__main__":
    main()
