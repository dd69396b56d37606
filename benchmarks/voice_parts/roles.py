"""Who is therapist and who client, measured on AnnoMI and HLQC (AutoMISC), with punctuation and without.

`shipped`: the packaged judge, which has learnt from texts of our own alone. `trained`: on AnnoMI with them, by cross-validation over
transcripts and over topics. `per_turn` is the judge on single turns (therapist against client); `per_conversation` counts a conversation
right where the sum over the turns gives both main speakers their role, `told_per_turn` gives every turn its speaker's role by that.
`setting` is the share of talks in which `roles_of` also says therapy, out of all talks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attunement.config import load_settings
from attunement.embedding import Embedder
from attunement.quality import labelled
from attunement.quality.features import Features
from attunement.quality.heads import fit, folds_of, targets_of
from attunement.quality.judges import JUDGES
from attunement.quality.labelled import Example
from attunement.quality.looking import look
from attunement.quality.panel import Judges
from attunement.quality.roles import TURN_ROLES, annomi_roles, as_heard, heard_too, turns_by_role
from attunement.quality.training import gather
from attunement.records import Turn
from attunement.sources.voice.roles import roles_of

CLIENT, THERAPIST = TURN_ROLES.index("client"), TURN_ROLES.index("therapist")


def measured(shared: Path) -> dict[str, Any]:
    """All figures of this part; the sets are below `shared`/data."""
    data = shared / "data"
    judges = Judges(Embedder(load_settings().settings.embedding))
    sets = {"annomi": labelled.annomi(data), "hlqc": labelled.hlqc(data)}
    out: dict[str, Any] = {"shipped": {}, "trained": {}}
    for name, sessions in sets.items():
        rows = [e for e in turns_by_role(sessions) if as_heard(e.text)]
        for form, examples in (("written", rows), ("heard", [heard_too(e) for e in rows])):
            verdicts = judges.judge("role", [e.item for e in examples])
            found = np.asarray([[v.labels[role] for role in TURN_ROLES] for v in verdicts])
            out["shipped"][f"{name}, {form}"] = scores(examples, found) | {"setting": _setting(examples, judges)}
            print(name, form, out["shipped"][f"{name}, {form}"], flush=True)
    out["trained"] = _trained(data, judges.features)
    return out


def scores(examples: Sequence[Example], found: Any) -> dict[str, float]:
    """Accuracies of probabilities `[n, 4]` of the turns of whole talks."""
    truth = np.asarray([e.labels[0] == "therapist" for e in examples])
    odds = np.log(np.maximum(found[:, THERAPIST], 1e-4)) - np.log(np.maximum(found[:, CLIENT], 1e-4))
    groups = np.asarray([e.group for e in examples])
    right = {g: odds[(groups == g) & truth].sum() > odds[(groups == g) & ~truth].sum() for g in np.unique(groups)}
    return {
        "turns": len(examples),
        "conversations": len(right),
        "per_turn": round(float(((odds > 0) == truth).mean()), 4),
        "per_conversation": round(float(np.mean(list(right.values()))), 4),
        "told_per_turn": round(float(np.mean([right[g] for g in groups])), 4),
    }


def _setting(examples: Sequence[Example], judges: Judges) -> float:
    """How many talks `roles_of` gives therapist and client, each to the right one."""
    talks: dict[str, list[Turn]] = {}
    for e in examples:
        talks.setdefault(e.group, []).append(Turn("", e.text, speaker=e.labels[0]))
    said = [{name: role.name for name, role in roles_of(turns, judges).items()} for turns in talks.values()]
    return round(float(np.mean([s == {"therapist": "therapist", "client": "client"} for s in said])), 4)


def _trained(data: Path, features: Features) -> dict[str, Any]:
    """AnnoMI by cross-validation: no talk (no topic) is in both parts. Each turn is tested as it was written and as a recogniser hears it."""
    judge, found = JUDGES["role"], gather(JUDGES["role"], data)
    seen = look(features, judge.shape, [e.item for e in found.examples])
    targets = targets_of(judge.shape, [e.labels for e in found.examples])
    own = np.flatnonzero([e.source != "annomi" for e in found.examples])
    theirs = np.flatnonzero([e.source == "annomi" for e in found.examples])
    turns = [e for e in annomi_roles(data) if as_heard(e.text)]
    assert [e.group for e in turns] == [found.examples[i].group for i in theirs]
    forms = {"written": turns, "heard": [heard_too(e) for e in turns]}
    looks = {form: look(features, judge.shape, [e.item for e in examples]) for form, examples in forms.items()}
    rows = labelled.rows_of(labelled.path_of(data, "annomi", "AnnoMI-full.csv"))
    topics = {f"annomi:{row['transcript_id']}": row["topic"] for row in rows}
    out = {}
    for kind in ("transcript", "topic"):
        groups = [topics.get(e.group, e.group) if kind == "topic" else e.group for e in found.examples]
        outer = folds_of([f"outer:{groups[i]}" for i in theirs])
        guessed = {form: np.zeros((len(turns), targets.shape[1])) for form in forms}
        for number in np.unique(outer):
            train = np.sort(np.concatenate([own, theirs[outer != number]]))
            head = fit(judge.shape, seen.take(train), targets[train], [groups[i] for i in train], {}, known=found.known[train])
            for form, tested in looks.items():
                guessed[form][outer == number] = head.predict(tested.take(np.flatnonzero(outer == number)))
        out |= {f"annomi by {kind}, {form}": scores(examples, guessed[form]) for form, examples in forms.items()}
        print(kind, out, flush=True)
    return out
