"""The review queue: texts outside the store, decisions that last, history that grows, two reviewers at once."""

from __future__ import annotations

import shutil
import stat
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from attunement.curation.review import EDITS, HELD, Held, HeldWriter, ReviewQueue, content_key, read_held, sweep_edits
from attunement.errors import DataError
from attunement.storage.sql import FILE, Store

SECRET = "she told me about the lake house"


def held(number: int, reason: str = "risk_ignorance") -> Held:
    context, question, answer = ["Hello."], f"{SECRET} {number}", f"Answer {number}."
    return Held(
        content_key(context, question, answer), f"x-{number:016x}", "notes", context, question, answer, [reason], {"unsafe": 0.9}
    )


def write(folder: Path, rows: list[Held]) -> None:
    with HeldWriter(folder) as writer:
        for row in rows:
            writer.add(row)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write(tmp_path / "data", [held(1), held(2, "stereotype"), held(3)])
    return tmp_path / "data"


@pytest.fixture
def queue(tmp_path: Path, dataset: Path) -> ReviewQueue:
    found = ReviewQueue(Store.at_home(tmp_path / "home"))
    assert found.add(dataset, read_held(dataset)) == 3
    return found


def test_texts_stay_in_the_dataset_and_both_are_closed_to_others(queue: ReviewQueue, dataset: Path, tmp_path: Path) -> None:
    assert (
        stat.S_IMODE((dataset / HELD).stat().st_mode) == 0o600 and stat.S_IMODE((dataset / HELD).parent.stat().st_mode) == 0o700
    )
    queue.decide(held(1).hash[:12], "edited", who="ana", why="names the line", answer="A better answer.")
    assert [stat.S_IMODE(p.stat().st_mode) for p in (dataset / EDITS).iterdir()] == [0o600]
    stored = b"".join(p.read_bytes() for p in (tmp_path / "home").iterdir() if p.name.startswith(FILE))
    assert b"risk_ignorance" in stored and SECRET.encode() not in stored and b"better answer" not in stored
    text = queue.text(queue.find(held(1).hash))
    assert text is not None and text == held(1)


def test_a_rebuild_queues_nothing_twice_and_forgets_no_decision(queue: ReviewQueue, dataset: Path) -> None:
    queue.decide(held(2).hash, "rejected", who="ana", why="stereotype")
    write(dataset, [held(2, "stereotype"), held(3), held(4)])  # the first is held no longer
    assert queue.add(dataset, read_held(dataset)) == 1
    assert {(e.pair_id[-1], e.status) for e in queue.list()} == {("2", "rejected"), ("3", "pending"), ("4", "pending")}
    assert [e.pair_id[-1] for e in queue.list("rejected", "stereotype")] == ["2"] and queue.list("pending", "stereotype") == []
    write(dataset, [])
    assert not (dataset / HELD).exists() and queue.add(dataset, read_held(dataset)) == 0
    assert [e.status for e in queue.list()] == ["rejected"] and set(queue.decisions()) == {held(2).hash}


def test_decisions_are_added_never_overwritten(queue: ReviewQueue) -> None:
    queue.decide(held(3).hash, "accepted", who="ana", why="calm")
    with pytest.raises(DataError, match=r"was accepted by ana on 20\d\d-\d\d-\d\d: decide anew with --again"):
        queue.decide(held(3).hash, "rejected", who="ben", why="not calm")
    entry = queue.decide(held(3).hash, "edited", who="ben", why="warmer", answer="Warm words.", again=True)
    assert [(d.decision, d.who, d.answer) for d in entry.decisions] == [
        ("accepted", "ana", None),
        ("edited", "ben", "Warm words."),
    ]
    assert entry.status == "edited" and queue.decisions()[held(3).hash].answer == "Warm words."


def test_bad_decisions_say_what_to_do(queue: ReviewQueue, dataset: Path) -> None:
    for arguments, message in (
        ({"decision": "accepted", "who": "ana", "why": " "}, "needs who decides and why"),
        ({"decision": "accepted", "who": "ana\x1b[2J", "why": "x"}, "characters that cannot be shown"),
        ({"decision": "edited", "who": "ana", "why": "x"}, "an edit needs the new answer"),
        ({"decision": "accepted", "who": "ana", "why": "x", "answer": "y"}, "only an edit has one"),
    ):
        with pytest.raises(DataError, match=message):
            queue.decide(held(1).hash, **arguments)  # type: ignore[arg-type]
    for identifier in ("zzz", "%", ""):
        with pytest.raises(DataError, match="list them with  attune review list"):
            queue.find(identifier)
    queue.decide(held(1).hash, "edited", who="ana", why="x", answer="New.")
    (path,) = (dataset / EDITS).iterdir()
    path.write_text('{"answer": "Forged."}')
    with pytest.raises(DataError, match="was changed after it was decided on"):
        queue.decisions()
    assert queue.find(held(1).hash).decisions[0].answer is None  # never the forged one
    queue.decide(held(1).hash, "edited", who="ana", why="x", answer="Newer.", again=True)  # what the error says to do
    assert queue.decisions()[held(1).hash].answer == "Newer."


def test_of_two_reviewers_at_once_one_is_told_of_the_other(tmp_path: Path, dataset: Path) -> None:
    queues = [ReviewQueue(Store.at_home(tmp_path / "home")) for _ in range(6)]
    queues[0].add(dataset, read_held(dataset))
    outcomes: list[str] = []

    def decide(number: int) -> None:
        try:
            queues[number].decide(held(1).hash, "accepted", who=f"reviewer {number}", why="fine")
            outcomes.append("done")
        except DataError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=decide, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("done") == 1 and sum("was accepted by reviewer" in o for o in outcomes) == 5
    assert len(queues[0].find(held(1).hash).decisions) == 1


def test_a_failed_build_leaves_what_was_held(dataset: Path) -> None:
    with pytest.raises(RuntimeError), HeldWriter(dataset) as writer:
        writer.add(replace(held(9)))
        raise RuntimeError
    assert [h.pair_id[-1] for h in read_held(dataset)] == ["1", "2", "3"] and len(list((dataset / HELD).parent.iterdir())) == 1


def test_an_edit_that_is_refused_leaves_no_text(queue: ReviewQueue, dataset: Path) -> None:
    queue.decide(held(1).hash, "accepted", who="ana", why="fine")
    for refused in (queue.open_to_decide, lambda key: queue.decide(key, "edited", who="ben", why="x", answer="Lost.")):
        with pytest.raises(DataError, match="was accepted by ana"):
            refused(held(1).hash)
    assert not (dataset / EDITS).exists() and queue.open_to_decide(held(1).hash, again=True).status == "accepted"


def test_a_decision_serves_every_dataset_that_holds_the_text(queue: ReviewQueue, dataset: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    queue.decide(held(1).hash, "edited", who="ana", why="warmer", answer="Warm words.")
    write(other, [held(1), held(2)])
    assert queue.add(other, read_held(other)) == 0 and len(queue.find(held(1).hash).datasets) == 2
    write(other, [held(1)])  # the second is still held by the first dataset, where it waits
    queue.add(other, read_held(other))
    assert {e.pair_id[-1] for e in queue.list("pending")} == {"2", "3"}
    shutil.rmtree(dataset)
    assert queue.decisions()[held(1).hash].answer == "Warm words."
    assert queue.text(queue.find(held(1).hash)) == held(1) and queue.text(queue.find(held(2).hash)) is None
    with pytest.raises(DataError, match=r"no dataset holds the text of [0-9a-f]{12} any longer"):
        queue.decide(held(2).hash, "edited", who="ana", why="x", answer="y")
    assert not dataset.exists() and queue.find(held(2).hash).status == "pending"


def test_a_folder_that_moved_keeps_its_edits(queue: ReviewQueue, dataset: Path) -> None:
    queue.decide(held(1).hash, "edited", who="ana", why="warmer", answer="Warm words.")
    moved = dataset.rename(dataset.with_name("moved"))
    assert queue.decisions() == {}
    queue.add(moved, read_held(moved))
    assert queue.decisions()[held(1).hash].answer == "Warm words."


def test_a_text_whose_edit_is_gone_waits_again(queue: ReviewQueue, dataset: Path) -> None:
    queue.decide(held(1).hash, "edited", who="ana", why="warmer", answer="Warm words.")
    write(dataset, [])  # as a withdrawal does
    sweep_edits(dataset)
    queue.add(dataset, read_held(dataset))
    assert queue.decisions() == {}
    write(dataset, [held(1)])
    queue.add(dataset, read_held(dataset))
    entry = queue.find(held(1).hash)
    assert entry.status == "pending" and [(d.decision, d.answer) for d in entry.decisions] == [("edited", None)]
    queue.decide(held(1).hash, "rejected", who="ben", why="x")
    assert queue.decisions()[held(1).hash].decision == "rejected"
