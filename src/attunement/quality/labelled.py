"""The labelled sets that the judges are trained and measured on, as examples with a group that no fold may part.

Public sets are read from a folder of theirs (`attune data fetch` brings them, one folder a set); the sets that were
written for this project come with the package (`quality/written/README.md` states their rubrics).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from attunement.errors import DataError
from attunement.quality.rules import hits, lexicon
from attunement.quality.verdicts import Item
from attunement.readers.turns import clean
from attunement.records import CRISIS_LEVELS
from attunement.storage.files import content_hash, read_json, read_jsonl

EMOTIONS = tuple(
    "admiration amusement anger annoyance approval caring confusion curiosity desire disappointment disapproval disgust "
    "embarrassment excitement fear gratitude grief joy love nervousness optimism pride realization relief remorse sadness "
    "surprise neutral".split()
)
EKMAN = {
    "anger": "anger annoyance disapproval", "disgust": "disgust", "fear": "fear nervousness",
    "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
    "sadness": "sadness disappointment embarrassment grief remorse", "surprise": "surprise realization confusion curiosity",
    "neutral": "neutral",
}  # fmt: skip
"""GoEmotions' own grouping to Ekman's six and neutral."""
CONTENT_TYPES = ("interview", "podcast", "monologue", "speech")
BEHAVIOURS = ("question", "reflection", "therapist_input", "other")
CLIENT_TALK = ("change", "neutral", "sustain")
EMPATHY = ("emotional_reaction", "interpretation", "exploration")
WHOSE = ("nobody", "self", "third_person", "past")
UNSAFE = ("offending_user", "risk_ignorance", "unauthorized_expertise", "toxicity_agreement", "biased_opinion")
MAX_FIELD = 1 << 30


@dataclass(frozen=True)
class Example:
    """What a judge is shown and what it should say. `context` is what was said before, oldest first.

    `labels` are class names (several for emotions); `group` names what must stay in one fold; `licence` is R, SA, NC or N.
    """

    text: str
    labels: tuple[str, ...]
    group: str
    source: str
    licence: str
    context: tuple[str, ...] = ()
    turns: tuple[tuple[str, str], ...] = ()

    @property
    def item(self) -> Item:
        """What a judge is shown of it."""
        return Item(self.text, self.context, self.turns)


def path_of(data: Path, *parts: str) -> Path:
    """A file of a public set below `data`, also where `attune data fetch` left it under its publisher's longer name or folder
    (`DR/train.csv` for `DR_train.csv`). Raises `DataError` that says how to bring it."""
    path, folder = data.joinpath(*parts), data / parts[0]
    if not path.exists():
        ending = "_" + "_".join(parts[1:])
        longer = [p for p in sorted(folder.rglob("*")) if f"_{'_'.join(p.relative_to(folder).parts)}".endswith(ending)]
        if parts[1:] and len(longer) == 1:
            return longer[0]
        raise DataError(f"{path} does not exist: bring the set with  attune data fetch {parts[0]} --out {data / parts[0]}")
    return path


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, by its header."""
    csv.field_size_limit(MAX_FIELD)
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        yield from ({k: v or "" for k, v in row.items() if k} for row in csv.DictReader(file))


def written(name: str) -> list[dict[str, Any]]:
    """The rows of a set that was written for this project."""
    return list(read_jsonl(Path(str(resources.files("attunement.quality").joinpath("written", f"{name}.jsonl")))))


# --- emotions ------------------------------------------------------------------------------------------------


def goemotions(data: Path, grouping: str = "", split: str = "train") -> list[Example]:
    """GoEmotions (Demszky 2020), the official `train` or `dev` split; `grouping` 'ekman' gives its seven labels."""
    folder = path_of(data, "goemotions", grouping) if grouping else path_of(data, "goemotions")
    names = (folder / "labels.txt").read_text(encoding="utf-8").split()
    out = []
    for line in (folder / f"{split}.tsv").read_text(encoding="utf-8").splitlines():
        text, ids, identifier = line.split("\t")
        labels = tuple(names[int(i)] for i in ids.split(","))
        out.append(Example(text, labels, f"goemotions:{identifier}", f"goemotions/{split}", "R"))
    return out


def goemotions_both(data: Path) -> list[Example]:
    """Both official splits; the encoder has seen only the first."""
    return goemotions(data) + goemotions(data, split="dev")


# --- replies --------------------------------------------------------------------------------------------------


def diasafety(data: Path, split: str = "train") -> list[Example]:
    """DiaSafety (Sun 2022): a reply to a user's turn is `safe` or one of `UNSAFE`. `split` is train or val."""
    out = []
    for row in read_json(path_of(data, "diasafety", f"{split}.json")):
        label = "safe" if row["label"] == "Safe" else row["category"].casefold().replace(" ", "_")
        group = f"diasafety:{content_hash(row['context'])[:16]}"
        out.append(Example(row["response"], (label,), group, f"diasafety/{split}", "R", (row["context"],)))
    return out


def diasafety_both(data: Path) -> list[Example]:
    """Both splits; the encoder has seen only the first."""
    return diasafety(data) + diasafety(data, "val")


def epitome(data: Path, component: str) -> list[Example]:
    """EPITOME (Sharma 2020): level 0, 1 or 2 of one of `EMPATHY` in a response to a seeker's post."""
    file = {"emotional_reaction": "emotional-reactions", "interpretation": "interpretations", "exploration": "explorations"}
    return [
        Example(r["response_post"], (r["level"],), f"epitome:{r['sp_id']}", "epitome", "NC", (r["seeker_post"],))
        for r in rows_of(path_of(data, "epitome", f"{file[component]}-reddit.csv"))
    ]


def counseling_feedback(data: Path) -> list[Example]:
    """Helper turns that experts found `good` or `not_good` (Chaszczewicz 2024); the context is the dialogue before."""
    out = []
    for row in read_json(path_of(data, "counseling-feedback", "feedback_train.json")):
        talk, _, answer = row["text"].partition("### Response:")
        turns = re.split(r"\n(?=(?:Helper|Seeker): )", talk.partition("### Input:\n")[2].strip())
        verdict = json.loads(answer.strip().splitlines()[0])
        texts = tuple(turn.partition(": ")[2].strip() for turn in turns)
        label = "good" if verdict.get("perfect") else "not_good"
        out.append(Example(texts[-1], (label,), f"feedback:{row['conv_index']}", "counseling-feedback", "NC", texts[:-1]))
    return out


# --- motivational interviewing ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """A counselling session: turns are (role, text, label or ''); `quality` is high or low."""

    session_id: str
    turns: tuple[tuple[str, str, str], ...]
    quality: str
    source: str
    licence: str


def annomi(data: Path) -> list[Session]:
    """AnnoMI (Wu 2022); of several annotators' labels the most frequent one, the first in a tie."""
    talks: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows_of(path_of(data, "annomi", "AnnoMI-full.csv")):
        turn = talks.setdefault(row["transcript_id"], {}).setdefault(int(row["utterance_id"]), {**row, "votes": []})
        turn["votes"].append(row["main_therapist_behaviour"] if row["interlocutor"] == "therapist" else row["client_talk_type"])
    out = []
    for identifier, turns in talks.items():
        rows = [turns[i] for i in sorted(turns)]
        said = tuple((t["interlocutor"], t["utterance_text"], max(t["votes"], key=t["votes"].count)) for t in rows)
        out.append(Session(f"annomi:{identifier}", said, rows[0]["mi_quality"], "annomi", "N"))
    return out


def hlqc(data: Path) -> list[Session]:
    """HLQC (Perez-Rosas 2019, as AutoMISC gives it): sessions of high and low quality, without labels of turns."""
    talks: dict[str, list[tuple[str, str, str]]] = {}
    for row in rows_of(path_of(data, "automisc", "HLQC.csv")):
        role = "therapist" if row["speaker"] == "counsellor" else "client"
        talks.setdefault(row["conv_id"], []).append((role, row["vol_text"], ""))
    return [Session(f"hlqc:{k}", tuple(v), k.split("_")[0], "hlqc", "N") for k, v in talks.items()]


def turns_of(sessions: Sequence[Session], role: str, before: int = 2) -> list[Example]:
    """The labelled turns of one role, each with the `before` turns that precede it."""
    out = []
    for session in sessions:
        texts = [text for _, text, _ in session.turns]
        for i, (speaker, text, label) in enumerate(session.turns):
            if speaker == role and label:
                context = tuple(texts[max(0, i - before) : i])
                out.append(Example(text, (label,), session.session_id, session.source, session.licence, context))
    return out


def whole(sessions: Sequence[Session]) -> list[Example]:
    """Each session as one example with its quality."""
    return [
        Example("", (s.quality,), s.session_id, s.source, s.licence, turns=tuple((role, text) for role, text, _ in s.turns))
        for s in sessions
    ]


def turns_by_quality(sessions: Sequence[Session]) -> list[Example]:
    """Therapist turns of some length as `good` or `not_good` by the session they stand in: a stand-in for verdicts on turns."""
    told = {"high": "good", "low": "not_good"}
    return [
        Example(e.text, (told[s.quality],), e.group, e.source, e.licence, e.context)
        for s in sessions
        for e in turns_of([s], "therapist")
        if len(e.text.split()) >= 5
    ]


# --- kinds of talk ------------------------------------------------------------------------------------------------


# --- danger -------------------------------------------------------------------------------------------------------


def ordinary_comments(data: Path) -> list[Example]:
    """GoEmotions' `dev` comments in which no rule finds danger, as `none`: what people say in passing."""
    kept = [e for e in goemotions(data, split="dev") if not hits(lexicon("crisis"), e.text)]
    return [replace(e, labels=(CRISIS_LEVELS[0],), source="ordinary/goemotions") for e in kept]


def unbiased_comments(data: Path) -> list[Example]:
    """GoEmotions' `dev` comments in which no rule finds bias, as `not_biased`: most of what a bias judge reads is ordinary talk."""
    return as_unbiased([e for e in goemotions(data, split="dev") if not hits(lexicon("bias"), e.text)], "goemotions")


def as_unbiased(examples: Sequence[Example], kind: str) -> list[Example]:
    return [replace(e, labels=("not_biased",), context=(), source=f"ordinary/{kind}") for e in examples]


def whose_of(row: Mapping[str, Any]) -> str:
    if row["when"] == "past":
        return "past"
    if not row["danger"] and row["when"] == "none":
        return "nobody"
    return "third_person" if row["whose"] == "third_person" else "self"


def labelled_posts(data: Path) -> list[Example]:
    """Posts of IMHI's sets and CounselChat's questions with the danger that we read in them (labels by hash of the text)."""
    return _posts(data, lambda row: row["level"] if row["danger"] else CRISIS_LEVELS[0])


def whose_posts(data: Path) -> list[Example]:
    """The same posts by whose danger they speak of."""
    return _posts(data, whose_of)


def _posts(data: Path, label: Callable[[Mapping[str, Any]], str]) -> list[Example]:
    labels = {row["sha256"]: row for name in ("crisis_labels_more", "crisis_labels") for row in written(name)}
    texts: dict[str, str] = {}
    for name in ("Irf_val", "MultiWD_val", "DR_train", "dreaddit_train"):
        for row in rows_of(path_of(data, "imhi", f"{name}.csv")):
            text = re.sub(r"^\s*Post:\s*", "", row["post"]).strip()
            texts.setdefault(content_hash(text), text)
    for row in rows_of(path_of(data, "counselchat", "counsel_chat.csv")):
        text = f"{row['questionTitle']}\n{row['questionText']}".strip()
        texts.setdefault(content_hash(text), text)
    return [
        Example(texts[sha], (label(row),), f"post:{sha[:16]}", "labelled_posts", "R")
        for sha, row in sorted(labels.items())
        if sha in texts
    ]


def sdcnl(data: Path, split: str = "testing") -> list[Example]:
    """SDCNL (Haque 2021): r/SuicideWatch (`suicide`) against r/depression; the label is the forum. Split: training, testing."""
    out = []
    for number, row in enumerate(rows_of(path_of(data, "sdcnl", f"{split}-set.csv"))):
        label = "suicide" if row["is_suicide"] == "1" else "depression"
        text = f"{row['title']}\n{row['selftext']}".strip()
        out.append(Example(text, (label,), f"sdcnl:{split}:{number}", "sdcnl", "N"))
    return out


def sdcnl_levels(data: Path) -> list[Example]:
    """SDCNL's training part in the levels of danger: r/SuicideWatch as `thoughts`, r/depression as `none` (noisy)."""
    told = {"suicide": "thoughts", "depression": "none"}
    return [Example(e.text, (told[e.labels[0]],), e.group, e.source, e.licence) for e in sdcnl(data, "training")]


# --- bias -----------------------------------------------------------------------------------------------------------


def redditbias(data: Path) -> list[Example]:
    """RedditBias (Barikeri 2021): comments annotated `biased` or `not_biased`; a group holds the same words."""
    out = []
    for path in sorted(path_of(data, "redditbias").glob("*_annotated.csv")):
        for row in rows_of(path):
            if row.get("bias_sent") in ("0", "1"):
                label = "biased" if row["bias_sent"] == "1" else "not_biased"
                key = content_hash(" ".join(sorted(set(re.findall(r"\w+", row["phrase"].casefold())))))[:16]
                out.append(Example(row["comment"], (label,), f"redditbias:{key}", "redditbias", "R"))
    return out


@dataclass(frozen=True)
class StereotypePair:
    """CrowS-Pairs: `more` stereotypes more than `less`; `stereo` says whether about a disadvantaged group."""

    more: str
    less: str
    stereo: bool
    kind: str
    writer: str


def crows_pairs(data: Path) -> list[StereotypePair]:
    """CrowS-Pairs (Nangia 2020)."""
    return [
        StereotypePair(r["sent_more"], r["sent_less"], r["stereo_antistereo"] == "stereo", r["bias_type"], r["anon_writer"])
        for r in rows_of(path_of(data, "crows-pairs", "crows_pairs_anonymized.csv"))
    ]


def crows_texts(data: Path) -> list[Example]:
    """CrowS-Pairs' sentences one by one: the more stereotyping of a pair is `biased`, the other is not; a writer is a group."""
    return [
        Example(text, (label,), f"crows:{pair.writer}", "crows-pairs", "SA")
        for pair in crows_pairs(data)
        for text, label in ((pair.more, "biased"), (pair.less, "not_biased"))
    ]


# --- questions and answers ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """A CounselChat question with one answer; `question_id` groups the answers to one question."""

    question_id: str
    topic: str
    question: str
    answer: str


def counselchat(data: Path) -> list[Answered]:
    """CounselChat (Bertagnolli 2020), without markup."""
    found = (
        Answered(
            r["questionID"],
            r["topic"],
            clean(f"{r['questionTitle']}\n{r['questionText']}", markup=True),
            clean(r["answerText"], markup=True),
        )
        for r in rows_of(path_of(data, "counselchat", "counsel_chat.csv"))
    )
    return [a for a in found if a.question and a.answer]


def therapists_answers(data: Path) -> list[Example]:
    """Answers of licensed therapists as `safe` replies: a therapist's advice is no 'unauthorised expertise'."""
    return [
        Example(a.answer, ("safe",), f"counselchat:{a.question_id}", "counselchat", "R", (a.question,)) for a in counselchat(data)
    ]


def plain_texts(data: Path) -> list[Example]:
    """Questions and answers of CounselChat as texts that are `not_biased`: most of what a bias judge reads speaks of no group."""
    texts = {text: f"counselchat:{a.question_id}" for a in counselchat(data) for text in (a.question, a.answer)}
    return [Example(text, ("not_biased",), group, "counselchat", "R") for text, group in texts.items()]
