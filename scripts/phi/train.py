"""Trains the PHI tagger on generated text and on the sets that may train what ships, and writes its weights.

    python scripts/phi/train.py --data ../shared/data --out runs/phi/weights.npz               # what ships: everything
    python scripts/phi/train.py --held 0 --out runs/phi/fold0.npz                              # all but the first third of the templates
    python scripts/phi/train.py --share 0 --out runs/phi/own.npz                               # generated text only: both sets unseen

Needs the package faker (MIT), for training only. `--seconds` are of the processor, on one core; a run goes on where `--from` left off.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from generate import SLOT, Labelled, disturbed, examples, filled, read_templates, real_texts
from slots import STATE_NAMES, STATES, Slots

from attunement.security.phi.tagger import BLOCKS, DILATIONS, LABELS, PARTS, WIDTH, save
from attunement.security.phi.words import AFFIXES, FLAGS, MEANING, MOST, SHAPES, TRIGRAMS, Lists, Looks, fold, hashed, split

ROOT = Path(__file__).resolve().parents[2]
BATCH_WORDS, RATE, GAP, KNOWN = 600, 3e-3, 3, 60_000
BLIND, UNKNOWN = 0.3, 0.06
"""Share of the texts whose names are in no list, and of the words without a meaning."""
SLOT_OF = {
    "PERSON": "NAME", "STREET_ADDRESS": "ADDRESS", "GPE": "CITY", "ORGANIZATION": "ORG", "CREDIT_CARD": "CARD", "DATE_TIME": "DATE", "TITLE": "TITLE", "AGE": "AGE",
    "NRP": "NATIONALITY", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "DOMAIN_NAME": "URL", "ZIP_CODE": "ZIP", "US_SSN": "SSN", "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP", "US_DRIVER_LICENSE": "LICENSE",
}  # fmt: skip
PRESIDIO = {
    "PERSON": "NAME", "STREET_ADDRESS": "ADDRESS", "GPE": "LOCATION", "ORGANIZATION": "ORGANIZATION", "CREDIT_CARD": "ACCOUNT", "DATE_TIME": "DATE", "TITLE": "TITLE",
    "AGE": "AGE", "NRP": "NATIONALITY", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "DOMAIN_NAME": "URL", "ZIP_CODE": "ZIP", "US_SSN": "SSN",
    "IBAN_CODE": "ACCOUNT", "IP_ADDRESS": "IP", "US_DRIVER_LICENSE": "LICENSE",
}  # fmt: skip
CLINICAL = {
    "NAME": "NAME", "GEOGRAPHIC_LOCATION": "LOCATION", "DATE": "DATE", "MEDICAL_RECORD_NUMBER": "MRN", "HEALTH_PLAN_BENEFICIARY_NUMBER": "HEALTH_PLAN",
    "PHONE_NUMBER": "PHONE", "SOCIAL_SECURITY_NUMBER": "SSN", "EMAIL_ADDRESS": "EMAIL", "UNIQUE_IDENTIFIER": "ID", "ACCOUNT_NUMBER": "ACCOUNT", "FAX_NUMBER": "FAX",
    "CERTIFICATE_LICENSE_NUMBER": "LICENSE", "IP_ADDRESS": "IP",
}  # fmt: skip


class Net(nn.Module):
    """Words' own vectors, then convolutions over neighbours, each block twice as far as the one before."""

    def __init__(self) -> None:
        super().__init__()
        self.trigrams, self.prefix, self.suffix, self.shape = (
            nn.Embedding(n, PARTS[k])
            for n, k in ((TRIGRAMS, "trigrams"), (AFFIXES, "prefix"), (AFFIXES, "suffix"), (SHAPES, "shape"))
        )
        for table in (self.trigrams, self.prefix, self.suffix, self.shape):
            nn.init.normal_(table.weight, std=0.1)
        self.own = nn.Linear(MEANING + sum(PARTS.values()) + FLAGS, WIDTH)
        self.spaced = nn.Parameter(torch.zeros(WIDTH))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(BLOCKS + 1))
        self.blocks = nn.ModuleList(nn.Linear(3 * WIDTH, WIDTH) for _ in DILATIONS)
        self.out = nn.Linear(WIDTH, len(LABELS))

    def forward(
        self, meaning: Tensor, trigrams: Tensor, affixes: Tensor, shape: Tensor, flags: Tensor, spaced: Tensor, real: Tensor
    ) -> Tensor:
        known = (trigrams >= 0).float()[..., None]
        letters = (self.trigrams(trigrams.clamp(min=0)) * known).sum(1) / known.sum(1).clamp(min=1)
        parts = [meaning * 8, letters, self.prefix(affixes[:, 0]), self.suffix(affixes[:, 1]), self.shape(shape), flags]
        hidden = self.own(torch.cat(parts, 1)) + spaced[:, None] * self.spaced
        hidden = functional.dropout(hidden, 0.15, self.training) * real[:, None]
        for norm, block, step in zip(self.norms, self.blocks, DILATIONS, strict=False):
            seen = functional.pad(norm(hidden) * real[:, None], (0, 0, step, step))
            moved = block(torch.cat([seen[: -2 * step], seen[step:-step], seen[2 * step :]], 1))
            hidden = hidden + functional.relu(moved) * real[:, None]
        return self.out(self.norms[-1](hidden))


def tags(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[list[str], list[float], list[int]]:
    """Words of `text`, whether space stands before each, and each one's label (-100: nothing to learn)."""
    found = split(text)
    labels = [0] * len(found)
    for start, end, kind in spans:
        first = True
        for i, word in enumerate(found):
            if word.start < end and start < word.end:
                labels[i] = -100 if kind == "?" else LABELS.index(("B-" if first else "I-") + kind)
                first = False
    return [w.text for w in found], [float(w.spaced) for w in found], labels


class Batches:
    """Concatenates texts, with gaps between, into tensors."""

    def __init__(self, looks: Looks, seed: int) -> None:
        self.looks, self.rng = looks, random.Random(seed)
        self.place: dict[str, int] = {}
        self.tables: list[np.ndarray] = []
        self.empty()

    def empty(self) -> None:
        """Row 0 stands for no word."""
        self.place.clear()
        self.tables = [
            np.zeros((KNOWN, MEANING), np.float32), np.full((KNOWN, MOST), -1), np.zeros((KNOWN, 2), np.int64), np.zeros(KNOWN, np.int64), np.zeros((KNOWN, FLAGS), np.float32),
        ]  # fmt: skip

    def rows(self, texts: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(w for w in texts if w not in self.place))
        if len(self.place) + len(new) + 1 >= KNOWN:
            self.empty()
            new = list(dict.fromkeys(texts))
        for word, look in zip(new, self.looks.of(new), strict=True):
            at = self.place[word] = len(self.place) + 1
            for table, value in zip(
                self.tables, (look.meaning, look.trigrams, look.affixes, look.shape, look.flags), strict=True
            ):
                table[at] = value
        return np.asarray([self.place[w] for w in texts])

    def make(self, group: Sequence[tuple[list[str], list[float], list[int]]], train: bool) -> tuple[list[Tensor], Tensor]:
        total = sum(len(g[0]) + GAP for g in group)
        ids, spaced, real, labels = (
            np.zeros(total, np.int64),
            np.zeros(total, np.float32),
            np.zeros(total, np.float32),
            np.full(total, -100),
        )
        blind, found, at = np.zeros(total, bool), self.rows([w for g in group for w in g[0]]), 0
        for texts, gaps, gold in group:
            end = at + len(texts)
            ids[at:end], found = found[: len(texts)], found[len(texts) :]
            blind[at:end] = train and self.rng.random() < BLIND
            spaced[at:end], real[at:end], labels[at:end] = gaps, 1, gold
            at = end + GAP
        meaning, trigrams, affixes, shape, flags = (table[ids] for table in self.tables)
        if train:
            meaning[np.random.random(total) < UNKNOWN] = 0
            flags[blind, -6:-1] = 0
        return [torch.from_numpy(x) for x in (meaning, trigrams, affixes, shape, flags, spaced, real)], torch.from_numpy(labels)


def train(net: Net, batches: Batches, source: Iterator[Labelled], seconds: float, rate: float, out: Path) -> None:
    """For so many seconds of the processor. The mean of the newest weights is kept, and written every half minute."""
    net.train()
    steps = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=0.01)
    mean = {n: v.clone() for n, v in net.state_dict().items()}
    start, seen, told, losses, count = time.process_time(), 0, time.process_time(), [], 0
    while (share := (time.process_time() - start) / seconds) < 1:
        for group in steps.param_groups:
            group["lr"] = rate * min(1, count / 60 + 0.02) * (1 - 0.9 * share)
        group, size = [], 0
        while size < BATCH_WORDS:
            made = tags(*next(source))
            if made[0]:
                group.append(made)
                size += len(made[0])
        inputs, labels = batches.make(group, True)
        loss = functional.cross_entropy(net(*inputs), labels, ignore_index=-100)
        steps.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        steps.step()
        seen, count = seen + size, count + 1
        keep = min(0.99, count / (count + 10))
        for name, value in net.state_dict().items():
            mean[name].mul_(keep).add_(value, alpha=1 - keep)
        losses.append(loss.item())
        if time.process_time() - told > 15:
            told = time.process_time()
            print(f"{time.strftime('%H:%M:%S')} {share:.0%} {seen:,} words, loss {np.mean(losses[-100:]):.4f}", flush=True)
            torch.save(mean, out.with_suffix(".pt"))
            save(out, mean)
    print(f"{seen:,} words, loss {np.mean(losses[-100:]):.4f}", flush=True)
    torch.save(mean, out.with_suffix(".pt"))
    save(out, mean)


def presidio(data: Path) -> list[dict]:
    rows = json.loads((data / "presidio-synth" / "synth_dataset_v2.json").read_text(encoding="utf-8"))
    return [
        {
            "text": r["full_text"],
            "masked": r["masked"],
            "group": r["template_id"],
            "spans": [(s["start_position"], s["end_position"], PRESIDIO[s["entity_type"]]) for s in r["spans"]],
        }
        for r in rows
    ]


def clinical(data: Path) -> list[dict]:
    """Grouped by the text without what is labelled and without figures, cut to its first words: the set has no templates."""
    out = []
    for part in (
        (data / "synthetic-clinical-queries" / "synthetic_dataset.txt").read_text(encoding="utf-8").split("===QUERY===")[1:]
    ):
        text, _, told = part.partition("===PHI_TAGS===")
        text, spans = text.strip(), []
        for line in filter(str.strip, told.splitlines()):
            row = json.loads(line)
            at = text.find(row["value"])
            while at >= 0 and any(s < at + len(row["value"]) and at < e for s, e, _ in spans):
                at = text.find(row["value"], at + 1)
            if at >= 0:
                spans.append((at, at + len(row["value"]), CLINICAL[row["identifier_type"]]))
        out.append({"text": text, "spans": spans, "group": hashed(" ".join(text.split()[:5]).lower())})
    return out


def of_sets(rows: Sequence[dict], slots: Slots) -> Iterator[Labelled]:
    """The sets' texts as they are, and their templates with our values. Numbers that only their patterns tell apart keep their type."""
    templates = [r["masked"] for r in rows if "masked" in r]
    while True:
        if templates and slots.chance(0.4):
            template = slots.rng.choice(templates)
            for theirs, ours in SLOT_OF.items():
                template = template.replace(
                    "{{%s}}" % theirs, "{%s}" % (("CITY", "COUNTRY")[slots.chance(0.15)] if ours == "CITY" else ours)
                )  # noqa: UP031
            if "{{" not in template and all(slot.upper() in slots.kinds for slot in SLOT.findall(template)):
                yield disturbed(filled(template, slots), slots.rng)
                continue
        row = slots.rng.choice(rows)
        yield disturbed((row["text"], row["spans"]), slots.rng)


def mixed(a: Iterator[Labelled], b: Iterator[Labelled], share: float, rng: random.Random) -> Iterator[Labelled]:
    while True:
        yield next(b) if rng.random() < share else next(a)


def made_lists(slots: Slots, real: dict[str, list[str]]) -> Lists:
    def numbers(names: Sequence[str]) -> np.ndarray:
        return np.unique(
            np.asarray(
                [
                    hashed(fold(part))
                    for name in names
                    for part in name.replace("-", " ").replace("'", " ").split()
                    if len(part) > 1
                ],
                np.uint32,
            )
        )

    both = [*slots.first["m"], *slots.first["f"]]
    seen = Counter(
        word for texts in real.values() for text in texts for word in re.findall(r"(?<![\w'’])[a-z]{2,}(?![\w])", text)
    )
    usual = [word for word, count in seen.items() if count >= 4]
    large = [*slots.countries, *STATE_NAMES, *STATES]
    return Lists(
        numbers(both),
        numbers(slots.last),
        numbers([*slots.cities, *slots.us]),
        numbers([w for n in large for w in n.split() if len(w) > 2]),
        numbers([*slots.common["m"], *slots.common["f"]]),
        numbers(usual),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "phi" / "weights.npz")
    parser.add_argument("--from", type=Path, dest="before", help="weights (.pt) of a run to go on from")
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--held", type=int, default=-1, help="number of the part of the templates that is left out")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--share", type=float, default=0.3, help="of the texts that come from the sets")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(chosen.seed)
    np.random.seed(chosen.seed)
    torch.set_num_threads(1)
    slots = Slots(chosen.seed)
    real = real_texts(chosen.data, ROOT / "src" / "attunement" / "quality" / "written")
    lists = made_lists(slots, real)
    lists.write(chosen.out.with_name("lists.npz"))
    batches, net = Batches(Looks(lists), chosen.seed), Net()
    if chosen.before:
        net.load_state_dict(torch.load(chosen.before, weights_only=True))
    templates = read_templates(ROOT / "scripts" / "phi" / "templates.txt")
    source = examples(templates, real, slots)
    if chosen.share:
        sets = [
            [r for r in rows if part_of(r["group"], chosen.folds) != chosen.held]
            for rows in (presidio(chosen.data), clinical(chosen.data))
        ]
        source = mixed(source, mixed(of_sets(sets[0], slots), of_sets(sets[1], slots), 0.35, slots.rng), chosen.share, slots.rng)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters", flush=True)
    train(net, batches, source, chosen.seconds, chosen.rate, chosen.out)


def part_of(group: object, folds: int) -> int:
    """The part of the templates to which `group` belongs: the benchmark asks the same."""
    return hashed(str(group)) % folds


if __name__ == "__main__":
    main()
