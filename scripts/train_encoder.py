"""Fine-tunes the packaged sentence encoder for the judges, on sets whose licence lets the weights be shipped (class R).

    python scripts/train_encoder.py ../shared/data --out runs/encoder

One encoder, many small tasks at once: emotions (GoEmotions), unsafe replies (DiaSafety), which answer belongs to which
question (CounselChat, in-batch negatives, half of them of the same topic), danger (texts of our own, labelled posts), empathy
and motivational interviewing (texts of our own), bias (RedditBias). Word embeddings stay as they are. Every fifth group of
each set (`heads.folds_of` 0) is left out, so that what ships can be measured on it.

Writes `encoder.safetensors`, what was learnt as the difference to the packaged weights, 8 bits a number with one scale a row
(11 MB), and `ranges.safetensors`, by which ONNX Runtime computes it in 8 bits: `embedding.model` takes the folder. About 25 minutes on two cores with AMX; the state is kept, and the same command goes on.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional

from attunement.config import EmbeddingSettings
from attunement.embedding import HEADS, TUNED, TUNED_RANGES, Packaged, tokenizer
from attunement.onnx_encoder import load_tensors, measure_ranges
from attunement.quality import labelled
from attunement.quality.features import fold_text
from attunement.quality.heads import folds_of
from attunement.records import CRISIS_LEVELS

TOKENS = 128
BATCH_TOKENS = 3072
PAIRS = 40
TEMPERATURE = 0.05
LEARNING_RATE, HEAD_RATE, WARMUP, DECAY = 1.5e-4, 2e-3, 0.06, 0.01
HELD_OUT = 0
RANGE_TEXTS = 512

Batch = Sequence[int]


class Texts:
    """Every text's tokens, once."""

    def __init__(self) -> None:
        self._tokenizer = tokenizer(TOKENS)
        self._place: dict[str, int] = {}
        self.ids: list[list[int]] = []

    def add(self, texts: Sequence[str]) -> list[int]:
        new = [text for text in dict.fromkeys(texts) if text not in self._place]
        for text, encoding in zip(new, self._tokenizer.encode_batch_fast([fold_text(t) for t in new]), strict=True):
            self._place[text] = len(self.ids)
            self.ids.append(encoding.ids)
        return [self._place[text] for text in texts]

    def padded(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        rows = [self.ids[i] for i in places]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return ids, mask


@dataclass
class Task:
    """`loss(head, vectors of texts, vectors of contexts or None, rows)`; `epochs` is how often each example is seen."""

    name: str
    texts: list[int]
    contexts: list[int] | None
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    outputs: int
    epochs: float

    def batches(self, texts: Texts, chance: random.Random) -> list[Batch]:
        """Rows of like lengths, so that little is padded."""
        length = [max(len(texts.ids[t]), len(texts.ids[c])) for t, c in zip(self.texts, self.contexts or self.texts, strict=True)]
        rows = sorted(range(len(self.texts)), key=lambda i: length[i] + chance.random() * 6)
        out: list[Batch] = []
        batch: list[int] = []
        for row in rows:
            if batch and (len(batch) + 1) * length[row] * (2 if self.contexts else 1) > BATCH_TOKENS:
                out.append(batch)
                batch = []
            batch.append(row)
        return [*out, batch]


def crossed(weight: Tensor | None = None) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, target: functional.cross_entropy(logits, target, weight=weight, label_smoothing=0.05)


def of_classes(
    name: str, texts: Texts, examples: Sequence[labelled.Example], classes: Sequence[str], epochs: float, context: bool
) -> Task:
    """One class an example; rare classes count for more (square root of the inverse share)."""
    examples = [e for e, fold in zip(examples, folds_of([e.group for e in examples]), strict=True) if fold != HELD_OUT]
    target = torch.tensor([classes.index(e.labels[0]) for e in examples])
    weight = (len(target) / len(classes) / torch.bincount(target, minlength=len(classes)).clamp(min=1)).sqrt().clamp(max=4)
    before = texts.add([e.context[-1] if e.context else "" for e in examples]) if context else None
    return Task(name, texts.add([e.text for e in examples]), before, target, crossed(weight), len(classes), epochs)


def tasks_of(data: Path, texts: Texts) -> list[Task]:
    emotions = labelled.goemotions(data)
    names = (data / "goemotions" / "labels.txt").read_text(encoding="utf-8").split()
    target = torch.tensor([[float(n in e.labels) for n in names] for e in emotions])

    def bce(logits: Tensor, wanted: Tensor) -> Tensor:
        return 12 * functional.binary_cross_entropy_with_logits(logits, wanted)

    out = [Task("emotion", texts.add([e.text for e in emotions]), None, target, bce, len(names), 3)]
    unsafe = labelled.diasafety(data)  # its own validation split is the held-out one
    classes = ("safe", *labelled.UNSAFE)
    wanted = torch.tensor([classes.index(e.labels[0]) for e in unsafe])
    before = texts.add([e.context[-1] for e in unsafe])
    out.append(Task("unsafe", texts.add([e.text for e in unsafe]), before, wanted, crossed(), len(classes), 4))
    danger = [*labelled.written_crisis(), *labelled.labelled_posts(data)]
    out.append(of_classes("crisis", texts, danger, CRISIS_LEVELS, 5, context=False))
    for component in labelled.EMPATHY:
        out.append(of_classes(component, texts, labelled.written_empathy(component), ("0", "1", "2"), 3, context=True))
    sessions = labelled.written_sessions()
    out.append(of_classes("behaviour", texts, labelled.turns_of(sessions, "therapist"), labelled.BEHAVIOURS, 4, context=True))
    out.append(of_classes("talk", texts, labelled.turns_of(sessions, "client"), labelled.CLIENT_TALK, 4, context=True))
    out.append(of_classes("bias", texts, labelled.redditbias(data), ("not_biased", "biased"), 2, context=False))
    return out


class Questions:
    """CounselChat: batches of one answer to each of many questions, half of them of one topic."""

    epochs = 8

    def __init__(self, data: Path, texts: Texts) -> None:
        rows = labelled.counselchat(data)
        folds = folds_of([f"counselchat:{r.question_id}" for r in rows])
        self.rows = [r for r, fold in zip(rows, folds, strict=True) if fold != HELD_OUT]
        self.asked = texts.add([r.question for r in self.rows])
        self.answers = texts.add([r.answer for r in self.rows])

    def batches(self, chance: random.Random) -> list[Batch]:
        rows = list(range(len(self.rows)))
        chance.shuffle(rows)
        rows[: len(rows) // 2] = sorted(rows[: len(rows) // 2], key=lambda i: (self.rows[i].topic, chance.random()))
        out: list[Batch] = []
        batch: dict[str, int] = {}
        later: list[int] = []
        for row in [*rows, *later]:
            if self.rows[row].question_id in batch:
                later.append(row)
                continue
            batch[self.rows[row].question_id] = row
            if len(batch) == PAIRS:
                out.append(list(batch.values()))
                batch = {}
        chance.shuffle(out)
        return out

    def loss(self, vectors: Callable[[Sequence[int]], Tensor], batch: Batch) -> Tensor:
        asked, answers = vectors([self.asked[i] for i in batch]), vectors([self.answers[i] for i in batch])
        scores = asked @ answers.T / TEMPERATURE
        target = torch.arange(len(batch))
        return (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2


class Encoder(nn.Module):
    """The packaged model and a linear head a task. Vectors are what `Embedder` gives: means of length 1."""

    def __init__(self, folder: Path, tasks: Sequence[Task]) -> None:
        from transformers import AutoModel

        super().__init__()
        # On the CPU plain attention without dropout is twice as fast as the fused one: 10,700 tokens/s, not 5,000.
        self.body = AutoModel.from_pretrained(
            str(folder), attn_implementation="eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        self.body.embeddings.requires_grad_(False)
        width = self.body.config.hidden_size
        self.scale = math.sqrt(width)
        self.heads = nn.ModuleDict({t.name: nn.Linear(width * (4 if t.contexts else 1), t.outputs) for t in tasks})

    def vectors(self, ids: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.body(input_ids=ids, attention_mask=mask).last_hidden_state
        weights = mask[..., None].float()
        return functional.normalize((hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1), dim=-1)

    def judged(self, name: str, text: Tensor, before: Tensor | None) -> Tensor:
        seen = text * self.scale
        if before is not None:
            seen = torch.cat([seen, before * self.scale, text * before * self.scale**2, (text - before).abs() * self.scale], -1)
        return self.heads[name](functional.dropout(seen, 0.1, self.training))


def schedule(tasks: Sequence[Task], questions: Questions, texts: Texts, chance: random.Random) -> list[tuple[str, Batch]]:
    """All batches of the run in a random order."""
    steps: list[tuple[str, Batch]] = []
    for task in tasks:
        for epoch in range(math.ceil(task.epochs)):
            batches = task.batches(texts, chance)
            chance.shuffle(batches)
            steps += [(task.name, b) for b in batches[: int(len(batches) * min(1.0, task.epochs - epoch))]]
    for _ in range(Questions.epochs):
        steps += [("questions", b) for b in questions.batches(chance)]
    chance.shuffle(steps)
    return steps


def train(data: Path, out: Path, seed: int, save_seconds: float) -> None:
    torch.manual_seed(seed)
    chance = random.Random(seed)
    texts = Texts()
    tasks, questions = tasks_of(data, texts), Questions(data, texts)
    folder = Packaged(EmbeddingSettings()).folder
    model = Encoder(folder, tasks)
    steps = schedule(tasks, questions, texts, chance)
    body = [p for p in model.body.parameters() if p.requires_grad]
    groups = [{"params": body, "lr": LEARNING_RATE}, {"params": list(model.heads.parameters()), "lr": HEAD_RATE}]
    optimiser = torch.optim.AdamW(groups, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda i: min((i + 1) / (WARMUP * len(steps)), max(0.0, (len(steps) - i) / (len(steps) * (1 - WARMUP))))
    )
    state, start = out / "state.pt", 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        rate.load_state_dict(kept["rate"])
        start = kept["step"]
    by_name = {t.name: t for t in tasks}
    model.train()
    mean: dict[str, float] = {}
    told = saved = time.monotonic()
    for number, (name, batch) in enumerate(steps[start:], start + 1):
        if name == "questions":
            loss = questions.loss(lambda places: model.vectors(*texts.padded(places)), batch)
        else:
            task = by_name[name]
            text = model.vectors(*texts.padded([task.texts[i] for i in batch]))
            before = model.vectors(*texts.padded([task.contexts[i] for i in batch])) if task.contexts else None
            loss = task.loss(model.judged(name, text, before), task.targets[list(batch)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        rate.step()
        mean[name] = 0.97 * mean.get(name, float(loss)) + 0.03 * float(loss)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"{number}/{len(steps)} " + " ".join(f"{n} {v:.3f}" for n, v in sorted(mean.items())), flush=True)
        if time.monotonic() - saved > save_seconds or number == len(steps):
            saved = time.monotonic()
            out.mkdir(parents=True, exist_ok=True)
            kept_state: dict[str, Any] = {
                "model": model.state_dict(), "optimiser": optimiser.state_dict(), "rate": rate.state_dict(), "step": number
            }  # fmt: skip
            torch.save(kept_state, out / "state.tmp")
            (out / "state.tmp").replace(state)
    write(model, folder, out)
    places = sorted(range(len(texts.ids)), key=lambda i: hash(tuple(texts.ids[i])))[:RANGE_TEXTS]
    batches = [tuple(part.numpy() for part in texts.padded(places[i : i + 16])) for i in range(0, len(places), 16)]
    tuned = Packaged(EmbeddingSettings(model=str(out))).weights()
    ranges = measure_ranges(tuned, HEADS, batches)
    save_file({name: value.astype(np.float16) for name, value in ranges.items()}, out / TUNED_RANGES)


def write(model: Encoder, folder: Path, out: Path) -> None:
    """The differences to the packaged weights: `name` `[N, K]` int8 and `name.scale` `[N]` for matrices, 32 bits for the rest."""
    before = load_tensors(folder / "model.safetensors")
    kept: dict[str, np.ndarray[Any, Any]] = {}
    for name, value in model.body.state_dict().items():
        if name.startswith("encoder."):
            change = value.float().numpy() - before[name]
            if change.ndim == 2:
                scale = np.maximum(np.abs(change).max(1), 1e-12) / 127
                kept[name] = np.rint(change / scale[:, None]).astype(np.int8)
                kept[f"{name}.scale"] = scale.astype(np.float32)
            else:
                kept[name] = change.astype(np.float32)
    save_file(kept, out / TUNED)
    print(f"{out / TUNED}: {(out / TUNED).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/encoder"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save-seconds", type=float, default=240)
    arguments = parser.parse_args()
    train(arguments.data, arguments.out, arguments.seed, arguments.save_seconds)
