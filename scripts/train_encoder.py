"""Fine-tunes the packaged sentence encoder for the judges, on sets whose licence lets the weights be shipped (class R).

    python scripts/train_encoder.py ../shared/data --out runs/encoder

One encoder, two vectors from one pass. The mean of the tokens' vectors stays what it is in the packaged model (held to it by
distillation) and learns which answer belongs to which question (in-batch negatives, half of them of the same topic). The first
token's vector learns the classes, many small tasks at once: emotions (GoEmotions), unsafe replies (DiaSafety), danger (texts of our own,
labelled posts of IMHI), stress and depression (IMHI), empathy, motivational interviewing and helpers' turns (texts of our own,
EmpatheticPersonas), bias (RedditBias, pairs of our own). Word embeddings and the first two
layers stay as they are. Part of each set is left out
(`training.HELD_OUT`), so that what ships can be measured on it.

Writes `encoder.safetensors`, what was learnt as the difference to the packaged weights, 8 bits a number with one scale a row
(11 MB), and `ranges.safetensors`, by which ONNX Runtime computes it in 8 bits: `embedding.model` takes the folder. About 50
minutes on two cores; the state is kept, and the same command goes on.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
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
from attunement.quality import labelled, own_sets
from attunement.quality.features import fold_text
from attunement.quality.heads import folds_of
from attunement.quality.misfits import exchanges
from attunement.records import CRISIS_LEVELS

TOKENS, LONG = 128, 256
"""Tokens of a text that are read; posts in which danger is sought are read to `LONG`."""
BATCH_TOKENS = 3072
PAIRS = 40
TEMPERATURE = 0.05
HELD, HELD_OF_PAIRS = (0,), (0, 1)
"""Folds that are left out: of the classes, and of questions and answers."""
DISTILLED, DISTILLATION = 0.35, 6.0
"""Share of the batches in which the mean vector is held to the packaged model's, and the weight of that loss."""
FROZEN_LAYERS = 2
"""With the word embeddings; a third less work, and what they do is common to all tasks."""
LEARNING_RATE, HEAD_RATE, WARMUP, DECAY = 1.5e-4, 2e-3, 0.06, 0.01
RANGE_TEXTS = 512

Batch = Sequence[int]
Loss = Callable[[Tensor, Tensor], Tensor]


class Texts:
    """Every text's tokens, once."""

    def __init__(self) -> None:
        self._tokenizer = tokenizer(2 * LONG)
        self._place: dict[str, int] = {}
        self.ids: list[list[int]] = []

    def add(self, texts: Sequence[str]) -> list[int]:
        new = [text for text in dict.fromkeys(texts) if text not in self._place]
        for text, encoding in zip(new, self._tokenizer.encode_batch_fast([fold_text(t) for t in new]), strict=True):
            self._place[text] = len(self.ids)
            self.ids.append(encoding.ids)
        return [self._place[text] for text in texts]

    def rows(self, places: Sequence[int], limit: int) -> list[list[int]]:
        return [row if len(row) <= limit else [*row[: limit - 1], row[-1]] for row in (self.ids[i] for i in places)]


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = 1
    return ids, mask


@dataclass
class Task:
    """Texts (with what was said before, or the other text of a pair) and targets; each is seen `epochs` times.

    `paired`: both texts go through the head by themselves, and the first should score higher.
    """

    name: str
    texts: list[int]
    contexts: list[int] | None
    targets: Tensor
    loss: Loss
    outputs: int
    epochs: float
    limit: int = TOKENS
    paired: bool = False

    def batches(self, texts: Texts, chance: random.Random) -> list[Batch]:
        """Rows of like lengths, so that little is padded."""
        both = zip(self.texts, self.contexts or self.texts, strict=True)
        length = [min(self.limit, max(len(texts.ids[t]), len(texts.ids[c]))) for t, c in both]
        rows = sorted(range(len(self.texts)), key=lambda i: length[i] + chance.random() * 6)
        out: list[Batch] = []
        batch: list[int] = []
        for row in rows:
            if batch and (len(batch) + 1) * length[row] * (2 if self.contexts else 1) > BATCH_TOKENS:
                out.append(batch)
                batch = []
            batch.append(row)
        return [*out, batch]


def crossed(weight: Tensor | None = None) -> Loss:
    return lambda logits, target: functional.cross_entropy(logits, target, weight=weight, label_smoothing=0.05)


def learnt(groups: Sequence[str], held: Sequence[int] = HELD) -> list[bool]:
    return [int(fold) not in held for fold in folds_of(groups)]


def of_classes(
    name: str,
    texts: Texts,
    examples: Sequence[labelled.Example],
    classes: Sequence[str],
    epochs: float,
    *,
    context: bool = False,
    limit: int = TOKENS,
) -> Task:
    """One class an example; rare classes count for more (square root of the inverse share)."""
    examples = [e for e, kept in zip(examples, learnt([e.group for e in examples]), strict=True) if kept]
    target = torch.tensor([classes.index(e.labels[0]) for e in examples])
    weight = (len(target) / len(classes) / torch.bincount(target, minlength=len(classes)).clamp(min=1)).sqrt().clamp(max=4)
    before = texts.add([e.context[-1] if e.context else "" for e in examples]) if context else None
    return Task(name, texts.add([e.text for e in examples]), before, target, crossed(weight), len(classes), epochs, limit)


def empathy(texts: Texts) -> Task:
    """The three components at once."""
    parts = [own_sets.written_empathy(component) for component in labelled.EMPATHY]
    kept = [i for i, there in enumerate(learnt([e.group for e in parts[0]])) if there]
    target = torch.tensor([[int(part[i].labels[0]) for part in parts] for i in kept])

    def loss(logits: Tensor, wanted: Tensor) -> Tensor:
        return functional.cross_entropy(logits.reshape(-1, 3), wanted.reshape(-1), label_smoothing=0.05) * 2

    before = texts.add([parts[0][i].context[-1] for i in kept])
    return Task("empathy", texts.add([parts[0][i].text for i in kept]), before, target, loss, 9, 4)


def of_imhi(data: Path, name: str, texts: Texts, epochs: float) -> Task:
    """Yes or no in one of IMHI's sets."""
    rows = list(labelled.rows_of(labelled.path_of(data, "imhi", f"{name}.csv")))
    posts = [re.sub(r"^\s*Post:\s*", "", r["post"]).strip() for r in rows]
    target = torch.tensor([int(r["response"].lstrip().lower().startswith("yes")) for r in rows])
    return Task(name, texts.add(posts), None, target, crossed(), 2, epochs, LONG)


def personas(data: Path, texts: Texts) -> Task:
    rows = list(labelled.rows_of(labelled.path_of(data, "empathetic-personas", "EP_EN_full.csv")))
    target = torch.tensor([int(float(r["empathy_score"])) for r in rows])
    return Task("personas", texts.add([r["response"] for r in rows]), None, target, crossed(), 3, 3)


def stereotypes(texts: Texts) -> Task:
    """Pairs of our own: the stereotype should score higher than its twin."""
    rows = [row for name in own_sets.WRITTEN_BIAS for row in labelled.written(name)]
    rows = [r for r, kept in zip(rows, learnt([r["id"] for r in rows]), strict=True) if kept]

    def loss(both: Tensor, _: Tensor) -> Tensor:
        score = both[..., 1] - both[..., 0]
        near = torch.cat([functional.softplus(-score[0]), functional.softplus(score[1])]).mean()
        return 2 * functional.softplus(score[1] - score[0]).mean() + 0.3 * near

    first, second = (texts.add([r[side] for r in rows]) for side in ("biased", "unbiased"))
    return Task("stereotypes", first, second, torch.zeros(len(rows)), loss, 2, 6, paired=True)


def tasks_of(data: Path, texts: Texts) -> list[Task]:
    emotions = labelled.goemotions(data)
    target = torch.tensor([[float(n in e.labels) for n in labelled.EMOTIONS] for e in emotions])

    def bce(logits: Tensor, wanted: Tensor) -> Tensor:
        return 12 * functional.binary_cross_entropy_with_logits(logits, wanted)

    out = [Task("emotion", texts.add([e.text for e in emotions]), None, target, bce, len(labelled.EMOTIONS), 2)]
    unsafe = labelled.diasafety(data)  # its own validation split is the held-out one
    classes = ("safe", *labelled.UNSAFE)
    wanted = torch.tensor([classes.index(e.labels[0]) for e in unsafe])
    before = texts.add([e.context[-1] for e in unsafe])
    out.append(Task("unsafe", texts.add([e.text for e in unsafe]), before, wanted, crossed(), len(classes), 3))
    out.append(of_classes("crisis", texts, own_sets.written_crisis(), CRISIS_LEVELS, 5, limit=LONG))
    out.append(of_classes("whose", texts, own_sets.written_whose(), labelled.WHOSE, 1))
    out.append(of_classes("posts", texts, labelled.labelled_posts(data), CRISIS_LEVELS, 4, limit=LONG))
    out += [of_imhi(data, "DR_train", texts, 1), of_imhi(data, "dreaddit_train", texts, 1), personas(data, texts)]
    out.append(empathy(texts))
    sessions = own_sets.written_sessions()
    out.append(of_classes("behaviour", texts, labelled.turns_of(sessions, "therapist"), labelled.BEHAVIOURS, 4, context=True))
    out.append(of_classes("talk", texts, labelled.turns_of(sessions, "client"), labelled.CLIENT_TALK, 4, context=True))
    helper = [*own_sets.written_helper(), *labelled.turns_by_quality(sessions)]
    out.append(of_classes("helper", texts, helper, ("not_good", "good"), 4, context=True))
    out.append(of_classes("bias", texts, labelled.redditbias(data), ("not_biased", "biased"), 1))
    return [*out, stereotypes(texts)]


class Questions:
    """Batches of one answer to each of many questions, half of them of one topic.

    Of long texts a stretch is shown, another one each time, so that pairs are not learnt by heart.
    """

    epochs = 8

    def __init__(self, data: Path, texts: Texts) -> None:
        self.rows = []
        for name, rows in exchanges(data).items():
            kept = learnt([f"{name}:{row[0]}" for row in rows], HELD_OF_PAIRS)
            self.rows += [(f"{name}:{row[0]}", *row[1:]) for row, there in zip(rows, kept, strict=True) if there]
        self.repeated = [i for i, row in enumerate(self.rows) if row[0].startswith("counselchat")]
        self.asked, self.answers = texts.add([r[2] for r in self.rows]), texts.add([r[3] for r in self.rows])

    def batches(self, chance: random.Random, rows: list[int]) -> list[Batch]:
        chance.shuffle(rows)
        rows[: len(rows) // 2] = sorted(rows[: len(rows) // 2], key=lambda i: (self.rows[i][1], chance.random()))
        out: list[Batch] = []
        batch: dict[str, int] = {}
        later: list[int] = []
        for row in [*rows, *later]:
            if self.rows[row][0] in batch:
                later.append(row)
                continue
            batch[self.rows[row][0]] = row
            if len(batch) == PAIRS:
                out.append(list(batch.values()))
                batch = {}
        chance.shuffle(out)
        return out

    def schedule(self, chance: random.Random) -> Iterator[Batch]:
        """CounselChat often, the short exchanges twice."""
        for _ in range(self.epochs):
            yield from self.batches(chance, list(self.repeated))
        for _ in range(2):
            yield from self.batches(chance, list(range(len(self.rows))))

    @staticmethod
    def stretch(ids: list[int], chance: random.Random) -> list[int]:
        inner = ids[1:-1]
        length = min(len(inner), TOKENS - 2, max(24, int(len(inner) * chance.uniform(0.3, 1.0))))
        start = chance.randint(0, len(inner) - length)
        return [ids[0], *inner[start : start + length], ids[-1]]

    def loss(self, model: Encoder, texts: Texts, batch: Batch, chance: random.Random) -> Tensor:
        asked, answers = (
            model(*padded([self.stretch(texts.ids[side[i]], chance) for i in batch]))[0] for side in (self.asked, self.answers)
        )
        scores = asked @ answers.T / TEMPERATURE
        target = torch.arange(len(batch))
        return (functional.cross_entropy(scores, target) + functional.cross_entropy(scores.T, target)) / 2


class Encoder(nn.Module):
    """The packaged model and a linear head a task. Both vectors are as `Embedder` gives them: of length 1."""

    def __init__(self, folder: Path, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.body = body_of(folder)
        for part in (self.body.embeddings, *self.body.encoder.layer[:FROZEN_LAYERS]):
            part.requires_grad_(False)
        width = self.body.config.hidden_size
        self.scale = math.sqrt(width)
        wide = {t.name: 4 if t.contexts and not t.paired else 1 for t in tasks}
        self.heads = nn.ModuleDict({t.name: nn.Linear(width * wide[t.name], t.outputs) for t in tasks})

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The mean vector and the first token's, `[B, d]` each."""
        return vectors_of(self.body, ids, mask)

    def judged(self, name: str, text: Tensor, before: Tensor | None) -> Tensor:
        seen = text * self.scale
        if before is not None:
            seen = torch.cat([seen, before * self.scale, text * before * self.scale**2, (text - before).abs() * self.scale], -1)
        return self.heads[name](functional.dropout(seen, 0.1, self.training))


def body_of(folder: Path) -> Any:
    from transformers import AutoModel

    # On the CPU plain attention without dropout is twice as fast as the fused one: 10,700 tokens/s, not 5,000.
    return AutoModel.from_pretrained(
        str(folder), attn_implementation="eager", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )


def vectors_of(body: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state
    hidden, weights = hidden.float(), mask[..., None].float()
    mean = functional.normalize((hidden * weights).sum(1) / weights.sum(1).clamp(min=1), dim=-1)
    return mean, functional.normalize(hidden[:, 0], dim=-1)


def schedule(tasks: Sequence[Task], questions: Questions, texts: Texts, chance: random.Random) -> list[tuple[str, Batch]]:
    """All batches of the run in a random order."""
    steps: list[tuple[str, Batch]] = []
    for task in tasks:
        for epoch in range(math.ceil(task.epochs)):
            batches = task.batches(texts, chance)
            chance.shuffle(batches)
            steps += [(task.name, b) for b in batches[: math.ceil(len(batches) * min(1.0, task.epochs - epoch))]]
    steps += [("questions", batch) for batch in questions.schedule(chance)]
    chance.shuffle(steps)
    return steps


class Run:
    """What a step needs."""

    def __init__(self, data: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.texts = Texts()
        self.tasks = {t.name: t for t in tasks_of(data, self.texts)}
        self.questions = Questions(data, self.texts)
        folder = Packaged(EmbeddingSettings()).folder
        self.model, self.teacher = Encoder(folder, list(self.tasks.values())), body_of(folder)
        self.steps = schedule(list(self.tasks.values()), self.questions, self.texts, self.chance)

    def loss(self, name: str, batch: Batch, chance: random.Random) -> Tensor:
        if name == "questions":
            return self.questions.loss(self.model, self.texts, batch, chance)
        task = self.tasks[name]
        ids, mask = padded(self.texts.rows([task.texts[i] for i in batch], task.limit))
        mean, text = self.model(ids, mask)
        before = None
        if task.contexts:
            before = self.model(*padded(self.texts.rows([task.contexts[i] for i in batch], task.limit)))[1]
        if task.paired and before is not None:
            logits = torch.stack([self.model.judged(name, vector, None) for vector in (text, before)])
        else:
            logits = self.model.judged(name, text, before)
        loss = task.loss(logits, task.targets[list(batch)])
        if chance.random() < DISTILLED:
            with torch.no_grad():
                wanted = vectors_of(self.teacher, ids, mask)[0]
            loss = loss + DISTILLATION * (1 - (mean * wanted).sum(-1)).mean()
        return loss


def train(data: Path, out: Path, seed: int, save_seconds: float) -> None:
    torch.manual_seed(seed)
    run = Run(data, seed)
    model, steps = run.model, run.steps
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
    model.train()
    mean: dict[str, float] = {}
    told = saved = time.monotonic()
    for number, (name, batch) in enumerate(steps[start:], start + 1):
        loss = run.loss(name, batch, random.Random(f"{seed}:{number}"))
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
    write(model, Packaged(EmbeddingSettings()).folder, out)
    places = sorted(range(len(run.texts.ids)), key=lambda i: hash(tuple(run.texts.ids[i])))[:RANGE_TEXTS]
    rows = sorted(run.texts.rows(places, LONG), key=len)
    batches = [tuple(part.numpy() for part in padded(rows[i : i + 16])) for i in range(0, len(rows), 16)]
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
            if not change.any():
                continue
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
