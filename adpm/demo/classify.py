"""Loads the adapters that adapter.lock pins, and counts what they get right on texts that no training has seen."""

import json
from pathlib import Path

import torch
import yaml
from transformers import AutoModel, AutoTokenizer

import adpm

DEMO = Path(__file__).parent


def main() -> None:
    base = yaml.safe_load((DEMO / "project" / "adapter.yaml").read_text(encoding="utf-8"))["base"]["path"]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModel.from_pretrained(base).eval()

    adapters = adpm.load(model, DEMO / "project")
    adapters.read(DEMO / "bare" / "food", name="bare-food")  # a linear head on the frozen base, without adapters
    adapters.read(DEMO / "bare" / "spam", name="bare-spam")

    for title, examples, bare, adapted, labels in (
        ("food reviews: great or other", "food", "bare-food", "default", ["other", "great"]),
        ("mail: ham or spam", "spam", "bare-spam", "mail", ["ham", "spam"]),
    ):
        lines = (DEMO / "held_out" / f"{examples}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        accuracy = {}
        for composition in (bare, adapted):
            with adapters.using(composition):
                right = sum(
                    labels[predicted] == row["label"]
                    for some in batches(rows)
                    for predicted, row in zip(predict(model, tokenizer, some), some, strict=True)
                )
            accuracy[composition] = right / len(rows)
        gain = accuracy[adapted] - accuracy[bare]
        print(f"{title} ({len(rows)} held-out texts)")
        print(f"  bare head  {accuracy[bare]:.4f}")
        print(f"  adapted    {accuracy[adapted]:.4f}  ({gain:+.4f})  {adapters.compositions[adapted]}")


def batches(rows: list[dict[str, str]], size: int = 32) -> list[list[dict[str, str]]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@torch.inference_mode()
def predict(model: torch.nn.Module, tokenizer: object, rows: list[dict[str, str]]) -> list[int]:
    texts = [row["text"] for row in rows]
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=80, return_tensors="pt")  # type: ignore[operator]
    predicted: list[int] = model(**inputs).logits.argmax(-1).tolist()
    return predicted


if __name__ == "__main__":
    main()
