"""Pretrains `attunement-base`, the small offline base model that ships with the package.

    python scripts/pretrain_base.py --shared ../shared --out runs/base --minutes 120

Reads only the sets whose licence lets trained weights be redistributed (class R in the data
README: CounselChat, VERA-MH, GoEmotions, DiaSafety's safe replies, empathetic-personas, the
OpenStax books, the CC BY ontologies, WordNet's glosses), trains a byte-level BPE tokenizer and a
Qwen3-shaped model on them, and writes a Hugging Face folder (safetensors, bf16) with a model card.

The learning rate follows the share of the time budget that is used, so the run ends well on
whatever machine it finds; every `--save-minutes` the whole state is written, and the same command
goes on from there. Muon on the matrices, AdamW on the rest.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import html
import json
import math
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

SPECIAL = ["<|pad|>", "<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{% generation %}{{ m['content'] | trim }}<|end|>{% endgeneration %}"
    "{% else %}{{ '<|' + m['role'] + '|>' }}{{ m['content'] | trim }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
VOCABULARY = 6144
CONTEXT = 512
# Reddit comments are here for everyday English, not for their temper.
COARSE = re.compile(
    r"\b(f+u+c+k\w*|sh[i1]t\w*|b[i1]tch\w*|cunt\w*|dick\w*|cock|pussy|porn\w*|nigg\w*|fag\w*|retard\w*|"
    r"whore\w*|slut\w*|rape\w*|ass|asshole\w*|bastard\w*|damn\w*|kill\w*|stfu|wtf)\b",
    re.I,
)
WARM_EMOTIONS = {0, 1, 4, 5, 6, 7, 8, 12, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27}


def held_out(key: str) -> bool:
    """One group in twenty, by its name, so that the split never moves when data is added."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 20 == 0


def clean(text: str) -> str:
    text = html.unescape(re.sub(r"<(br|/p|/li|/div)[^>]*>", "\n", text))
    text = re.sub(r"<[^>]+>", " ", text)
    text = text.replace("\u2019", "'").replace("\u2018", "'").replace("\u201c", '"').replace("\u201d", '"')
    text = re.sub(r"([.!?])(?=[A-Z][a-z'])", r"\1 ", text)  # CounselChat lost its line breaks
    text = re.sub(r"[ \t\u00a0]+", " ", text)
    return re.sub(r"\s*\n\s*", "\n", text).strip()


def chat(turns: list[tuple[str, str]]) -> str:
    return "<|bos|>" + "".join(f"<|{role}|>{text}<|end|>" for role, text in turns)


def counselchat(root: Path) -> Iterator[tuple[str, str]]:
    with open(root / "data/counselchat/counsel_chat.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            question, title, answer = clean(row["questionText"]), clean(row["questionTitle"]), clean(row["answerText"])
            if len(answer) > 20:
                asked = f"{question} {title}" if title not in question else question
                yield f"counselchat/{row['questionID']}", chat([("user", asked.strip()), ("assistant", answer)])


def vera(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted((root / "data/vera-mh/conversations").rglob("*.txt")):
        parts = re.split(r"^(user|agent): ", path.read_text(encoding="utf-8"), flags=re.M)
        turns = [
            ("user" if who == "user" else "assistant", clean(re.sub(r"[*#]+ ?", "", said)))
            for who, said in zip(parts[1::2], parts[2::2], strict=True)
        ]
        for start in range(0, len(turns), 4):  # windows of four turns fit the context
            if window := turns[start : start + 4]:
                yield f"vera/{path.stem}", chat(window)


def personas(root: Path) -> Iterator[tuple[str, str]]:
    with open(root / "data/empathetic-personas/EP_rewritings_2144_EN.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield (
                f"personas/{row['base']}",
                chat([("user", f"I feel {row['emotion'].lower()}."), ("assistant", clean(row["rewriting"]))]),
            )


def diasafety(root: Path) -> Iterator[tuple[str, str]]:
    for row in json.loads((root / "data/diasafety/train.json").read_text(encoding="utf-8")):
        wanted = row["label"] == "Safe" and row["category"] in ("Risk Ignorance", "Unauthorized Expertise")
        if wanted and not COARSE.search(row["context"] + row["response"]):
            yield f"diasafety/{row['context']}", chat([("user", clean(row["context"])), ("assistant", clean(row["response"]))])


def goemotions(root: Path) -> Iterator[tuple[str, str]]:
    with open(root / "data/goemotions/train.tsv", encoding="utf-8") as file:
        for line in file:
            text, labels, name = line.rstrip("\n").split("\t")
            if {int(x) for x in labels.split(",")} <= WARM_EMOTIONS and not COARSE.search(text) and len(text.split()) > 4:
                yield f"goemotions/{name}", "<|bos|>" + clean(text.replace("[NAME]", "Sam"))


def openstax(root: Path) -> Iterator[tuple[str, str]]:
    space = "{http://cnx.rice.edu/cnxml}"
    for path in sorted((root / "knowledge/openstax").rglob("index.cnxml")):
        tree = ElementTree.parse(path)
        for block in tree.iter():
            if block.tag in (f"{space}para", f"{space}meaning"):
                text = clean(re.sub(r"\s+", " ", "".join(block.itertext())))
                text = re.sub(r"\s*\((?:[A-Z][^()]*\d{4}[^()]*|credit[^()]*)\)", "", text)
                if len(text.split()) > 8:
                    yield f"openstax/{path.parent.name}", "<|bos|>" + text


def ontologies(root: Path) -> Iterator[tuple[str, str]]:
    knowledge = root / "knowledge"
    for path in [*sorted(knowledge.glob("*/*.obo"))]:
        block = re.compile(r'^name: (.+)\ndef: "((?:[^"\\]|\\.)*)"', re.M)
        for name, meaning in block.findall(path.read_text(encoding="utf-8", errors="replace").replace("\r", "")):
            yield f"{path.stem}/{name}", f"<|bos|>{clean(name)}: {clean(meaning)}"
    label = re.compile(r"<rdfs:label[^>]*>([^<]+)</rdfs:label>")
    meaning = re.compile(r"<obo:IAO_0000115[^>]*>([^<]+)</obo:IAO_0000115>")
    for path in (
        knowledge / "bcio/bcio.owl",
        knowledge / "bcio/bcto.owl",
        knowledge / "mf/MF.owl",
        knowledge / "mfoem/MFOEM.owl",
    ):
        for block_text in path.read_text(encoding="utf-8").split("<owl:Class ")[1:]:
            names, meanings = label.search(block_text), meaning.search(block_text)
            if names and meanings and len(meanings[1].split()) > 5:
                yield f"{path.stem}/{names[1]}", f"<|bos|>{clean(names[1])}: {clean(meanings[1])}"
    with gzip.open(knowledge / "wordnet/subset.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            entry = json.loads(line)
            yield f"wordnet/{entry['id']}", f"<|bos|>{entry['label']}: {entry['definition']}."


DIALOGUE = (counselchat, vera, personas, diasafety)
GENERAL = (openstax, goemotions, ontologies)


def read(root: Path) -> dict[str, list[str]]:
    """The texts as `dialogue`, `general` and `held_out` (dialogue of CounselChat and VERA-MH only)."""
    out: dict[str, list[str]] = {"dialogue": [], "general": [], "held_out": []}
    seen: set[str] = set()
    for kind, sources in (("dialogue", DIALOGUE), ("general", GENERAL)):
        for source in sources:
            for key, text in source(root):
                folded = re.sub(r"\W+", "", text.lower())[:400]
                if folded in seen:
                    continue
                seen.add(folded)
                if held_out(key):
                    if source in (counselchat, vera):
                        out["held_out"].append(text)
                else:
                    out[kind].append(text)
    return out


def train_tokenizer(texts: dict[str, list[str]], folder: Path) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    strip = re.compile("|".join(map(re.escape, SPECIAL)))
    core.train_from_iterator((strip.sub(" ", t) for t in texts["dialogue"] * 2 + texts["general"]), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<|bos|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=SPECIAL[3:],
        model_max_length=CONTEXT * 2,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return np.concatenate([np.asarray(x if x[-1] == end else [*x, end], dtype=np.uint16) for x in ids])


def new_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=256,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=64,
            intermediate_size=768,
            max_position_embeddings=CONTEXT * 2,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            initializer_range=0.02,
            attn_implementation="sdpa",
        )
    )


@torch.no_grad()
def perplexity(model: Qwen3ForCausalLM, ids: np.ndarray) -> float:
    model.eval()
    total, count = 0.0, 0
    for start in range(0, len(ids) - 1, CONTEXT):
        piece = torch.from_numpy(ids[start : start + CONTEXT + 1].astype(np.int64))[None]
        if piece.shape[1] < 2:
            break
        logits = model(piece[:, :-1]).logits
        total += torch.nn.functional.cross_entropy(logits[0].float(), piece[0, 1:], reduction="sum").item()
        count += piece.shape[1] - 1
    model.train()
    return math.exp(total / count)


def schedule(progress: float, step: int) -> float:
    """Warm-up over 60 steps, flat, then to nothing over the last 45 % of the budget."""
    return min(1.0, (step + 1) / 60) * min(1.0, max(0.02, (1 - progress) / 0.45))


def batch(parts: dict[str, np.ndarray], step: int, rows: int, progress: float) -> torch.Tensor:
    """Rows drawn by (step): half dialogue at first, nearly all of it at the end."""
    rng = np.random.default_rng((17, step))
    share = 0.45 + 0.5 * max(0.0, (progress - 0.4) / 0.6)
    out = []
    for _ in range(rows):
        ids = parts["dialogue" if rng.random() < share else "general"]
        at = int(rng.integers(0, len(ids) - CONTEXT - 1))
        out.append(ids[at : at + CONTEXT + 1])
    return torch.from_numpy(np.stack(out).astype(np.int64))


def save_state(path: Path, model: Qwen3ForCausalLM, optimizers: list[torch.optim.Optimizer], step: int, elapsed: float) -> None:
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizers": [o.state_dict() for o in optimizers],
            "step": step,
            "elapsed_seconds": elapsed,
        },
        temporary,
    )
    temporary.replace(path)


def train(args: argparse.Namespace) -> None:
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    texts = read(args.shared)
    if args.start_from or (out / "tokenizer/tokenizer.json").exists():
        tokenizer = PreTrainedTokenizerFast.from_pretrained(args.start_from or out / "tokenizer")
    else:
        tokenizer = train_tokenizer(texts, out / "tokenizer")
    parts = {kind: encode(tokenizer, some) for kind, some in texts.items()}
    print({kind: len(ids) for kind, ids in parts.items()}, "tokens", flush=True)
    torch.manual_seed(17)
    torch.set_num_threads(args.threads)
    model = new_model(tokenizer)
    print(sum(p.numel() for p in model.parameters()) / 1e6, "million parameters", flush=True)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "embed" not in n)]
    rates = [args.muon_rate, args.adam_rate]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=rates[0], weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rates[1], betas=(0.9, 0.95), weight_decay=0.0),
    ]
    compiled = torch.compile(model)  # 4,050 against 3,000 tokens/s on 2 cores; bf16 autocast 2,200 (no AMX)
    step, elapsed = 0, 0.0
    state_path = out / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step, elapsed = state["step"], state["elapsed_seconds"]
        print(f"goes on from step {step}, {elapsed / 60:.0f} minutes", flush=True)
    elif args.start_from:  # a state was lost: the weights go on with fresh moments
        saved = AutoModelForCausalLM.from_pretrained(args.start_from, dtype=torch.float32)
        model.load_state_dict(saved.state_dict())
        step, elapsed = args.steps_before, args.minutes_before * 60
    first = step
    started, last_save, recent = time.monotonic() - elapsed, time.monotonic(), []
    log = open(out / "log.jsonl", "a", encoding="utf-8")
    while (elapsed := time.monotonic() - started) < args.minutes * 60:
        progress = elapsed / (args.minutes * 60)
        piece = batch(parts, step, args.rows, progress)
        logits = compiled(piece[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), piece[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * schedule(progress, step - first)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        recent.append(loss.item())
        if step % 50 == 0:
            row = {
                "step": step,
                "minutes": round(elapsed / 60, 1),
                "tokens": step * args.rows * CONTEXT,
                "loss": round(sum(recent) / len(recent), 4),
            }
            if step % 500 == 0:
                row["held_out_perplexity"] = round(perplexity(model, parts["held_out"]), 2)
            recent.clear()
            print(row, flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
        if time.monotonic() - last_save > args.save_minutes * 60:
            save_state(state_path, model, optimizers, step, elapsed)
            write_model(model, tokenizer, parts, out / "attunement-base", step, args, elapsed)
            last_save = time.monotonic()
    save_state(state_path, model, optimizers, step, elapsed)
    write_model(model, tokenizer, parts, out / "attunement-base", step, args, elapsed)


CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# attunement-base

The offline base model of Attunement: {millions:.1f} million parameters, Qwen3-shaped, byte-level BPE
with {vocabulary:,} tokens, context {context}. It exists so that the whole chain (curate, fine-tune,
evaluate, serve) runs with no network and no GPU. **It is not a therapist and must never talk with a
person in distress.** Use a real base for anything but trying the toolkit out.

- Trained by `scripts/pretrain_base.py`: {steps:,} steps, {tokens:.1f} million tokens drawn from
  {corpus:.1f} million tokens of text, {minutes:.0f} minutes on 2 shared CPU cores, Muon and AdamW.
- Held-out perplexity (one CounselChat question in twenty with all its answers, one VERA-MH
  conversation in twenty): **{ppl:.1f}**.

| training text | licence |
|---|---|
| CounselChat (questions with therapists' answers) | MIT |
| VERA-MH (simulated conversations) | MIT-style, with its disclaimer: made to test models, not clinical advice |
| empathetic-personas (rewritings) | MIT |
| DiaSafety (replies labelled safe, two categories) | Apache-2.0 |
| GoEmotions (training comments without coarse words) | Apache-2.0, data CC BY 4.0 |
| OpenStax Psychology 2e, Introduction to Sociology 3e | CC BY 4.0 (OpenStax, Rice University) |
| BCIO, MF, MFOEM, NBO, SYMP, MAxO | CC BY 3.0 / 4.0, CC0 |
| WordNet 3.0 (psychological glosses) | WordNet licence |

The weights are Apache-2.0. A model this small repeats pieces of its training text and says things
that are wrong; both are measured nowhere else than here.
"""


def write_model(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    parts: dict[str, np.ndarray],
    folder: Path,
    step: int,
    args: argparse.Namespace,
    elapsed: float,
) -> None:
    """Writes the folder that ships. The bf16 copy is what is measured, not the fp32 state."""
    temporary = folder.with_name(folder.name + ".tmp")
    state = {k: v.to(torch.bfloat16) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    model.save_pretrained(temporary, state_dict=state)
    config = json.loads((temporary / "config.json").read_text())
    config["dtype"] = "bfloat16"
    (temporary / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tokenizer.save_pretrained(temporary)
    shipped = AutoModelForCausalLM.from_pretrained(temporary, dtype=torch.float32)
    figure = perplexity(shipped, parts["held_out"])
    (temporary / "README.md").write_text(
        CARD.format(
            millions=sum(p.numel() for p in shipped.parameters()) / 1e6,
            vocabulary=len(tokenizer),
            context=CONTEXT * 2,
            steps=step,
            tokens=step * args.rows * CONTEXT / 1e6,
            corpus=sum(len(v) for v in parts.values()) / 1e6,
            minutes=elapsed / 60,
            ppl=figure,
        )
    )
    folder.mkdir(exist_ok=True)
    for file in temporary.iterdir():
        file.replace(folder / file.name)
    temporary.rmdir()
    print(f"step {step}: wrote {folder}, held-out perplexity {figure:.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("runs/base"))
    parser.add_argument("--minutes", type=float, default=120.0, help="the whole budget, resumed time included")
    parser.add_argument("--save-minutes", type=float, default=10.0)
    parser.add_argument("--start-from", type=Path, help="a folder that an earlier run wrote, where its state.pt is lost")
    parser.add_argument("--steps-before", type=int, default=0, help="with --start-from: the steps in those weights")
    parser.add_argument("--minutes-before", type=float, default=0.0, help="with --start-from: their share of the budget")
    parser.add_argument("--rows", type=int, default=8, help=f"sequences of {CONTEXT} tokens a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--muon-rate", type=float, default=6e-3)
    parser.add_argument("--adam-rate", type=float, default=3e-3)
    train(parser.parse_args())
