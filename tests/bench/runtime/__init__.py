"""What the runtime costs beside the bare model, `adapters` and `peft`: `python -m tests.bench.runtime`."""
