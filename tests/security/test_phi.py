"""Protected health information: what is found in texts and talks, and what each mode makes of it."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attunement.cli.main import app
from attunement.records import Conversation, Origin, Turn
from attunement.security.phi.checks import age_of, iban, luhn
from attunement.security.phi.detector import PHIDetector, PHIFound
from attunement.security.phi.identifiers import SAFE_HARBOR, TYPES, PHISpan, merged
from attunement.security.phi.logs import Sanitiser
from attunement.security.phi.shifting import shifted
from attunement.security.phi.surrogates import Surrogates

SECRET = b"a secret of sixteen bytes or more"
TALK = (
    "Therapist: What is your name?",
    "Robert Miller. My wife is called Anna.",
    "Hi Robert, when were you born?",
    "On 03/14/1931, I'm 93. Anna's birthday is May 2nd. Call me at (415) 555-2671.",
    "Bob's boss told me. Mail bob.miller@mail.test, or call 415.555.2671.",
)
CASES = {
    "A": ("I talked to Maria Gonzalez about it.", "Maria Gonzalez"),
    "B": ("She lives at 12 Oak Street, Boston.", "12 Oak Street, Boston"),
    "C": ("Admitted on March 3rd, 2021.", "March 3rd, 2021"),
    "D": ("Call (212) 555-0188 after five.", "(212) 555-0188"),
    "E": ("Fax it to 212-555-0134 please.", "212-555-0134"),
    "F": ("Write to jo.lee+x@mail.example.org.", "jo.lee+x@mail.example.org"),
    "G": ("SSN 457-55-5462", "457-55-5462"),
    "H": ("MRN: 00-48213", "00-48213"),
    "I": ("Her insurance member number is XWQ774120983.", "XWQ774120983"),
    "J": ("my account number is 8830021457", "8830021457"),
    "K": ("Nursing license RN-448291 was revoked.", "RN-448291"),
    "L": ("A white truck, license plate 7KLM392.", "7KLM392"),
    "M": ("The pacemaker has serial number PJN449201.", "PJN449201"),
    "N": ("It is all on https://example.org/my-story.", "https://example.org/my-story"),
    "O": ("The login came from 81.2.69.160 at night.", "81.2.69.160"),
    "P": ("They keep her voice print on file.", "voice print"),
    "Q": ("I sent a photo of my face.", "photo of my face"),
    "R": ("Study ID P-20417 was withdrawn.", "P-20417"),
}


@pytest.fixture(scope="module")
def detector() -> PHIDetector:
    return PHIDetector()


def marked(text: str, spans: Sequence[PHISpan]) -> dict[str, str]:
    return {text[s.start : s.end]: s.safe_harbor for s in spans}


@pytest.mark.parametrize("letter", sorted(SAFE_HARBOR))
def test_each_safe_harbor_identifier_is_found(detector: PHIDetector, letter: str) -> None:
    text, value = CASES[letter]
    assert marked(text, detector.detect(text)).get(value) == letter
    assert value not in detector.redact(text)
    assert letter in TYPES.values()


@pytest.mark.parametrize(
    "text",
    [
        "I feel numb. I wake at four, count to 100 and do it again, 3 times a night.",
        "PHQ-9 score 17, sertraline 50 mg daily x 30 days, pain 7/10, blood pressure 120/80.",
        "May I be honest? I hope it gets better, I will try.",
        "On a scale from 0 to 10, maybe a 6. It costs $1,200.50, or 15% more.",
    ],
)
def test_ordinary_talk_holds_nothing(detector: PHIDetector, text: str) -> None:
    assert [s for s in detector.detect(text) if s.safe_harbor] == []


def test_what_identifies_nobody_by_itself_is_told_without_a_letter(detector: PHIDetector) -> None:
    text = "In 1998 a 34 year old moved to France; she is 91 years old now."
    assert marked(text, detector.detect(text)) == {"1998": "", "34": "", "France": "", "91": "C"}
    assert detector.redact(text) == text.replace("91", "[AGE]")
    assert "[DATE]" in PHIDetector(quasi=True, model=False).redact(text)


def test_a_talk_gives_names_away_across_turns(detector: PHIDetector) -> None:
    redacted = "\n".join(detector.redact_turns(TALK))
    for secret in ("Robert", "Miller", "Anna", "Bob", "1931", "93", "2671", "May 2nd"):
        assert secret not in redacted
    assert "[NAME]'s birthday" in redacted and "What is your name?" in redacted
    assert detector.detect("anna") == [] or detector.detect("anna")[0].type == "NAME"
    answer = detector.detect_turns(["Who am I speaking with?", "zorblax"])[1]
    assert [s.type for s in answer] == ["NAME"]
    assert detector.detect_turns(["Who am I speaking with?", "I would rather not say"])[1] == []


def test_pseudonyms_are_consistent_keyed_and_of_the_same_form(detector: PHIDetector) -> None:
    once = detector.pseudonymise(TALK, secret=SECRET, conversation_id="c1")
    assert once == detector.pseudonymise(TALK, secret=SECRET, conversation_id="c1")
    assert once != detector.pseudonymise(TALK, secret=SECRET, conversation_id="c2")
    assert once != detector.pseudonymise(TALK, secret=SECRET[::-1], conversation_id="c1")
    first, last = once[1].split(". ")[0].split()
    assert once[2].startswith(f"Hi {first},") and {first, last}.isdisjoint({"Robert", "Miller", "Anna"})
    wife = re.fullmatch(r".* My wife is called (\w+)\.", once[1])
    assert wife and f"{wife[1]}'s birthday" in once[3] and "I'm 90." in once[3]
    assert re.search(r"\(\d{3}\) \d{3}-\d{4}", once[3])
    digits = [
        re.sub(r"\D", "", found)
        for found in (re.findall(r"\(\d{3}\) \d{3}-\d{4}", once[3]) + re.findall(r"\d{3}\.\d{3}\.\d{4}", once[4]))
    ]
    assert len(digits) == 2 and digits[0] == digits[1] != "4155552671"
    assert "Bob" not in once[4] and "mail.test" not in once[4]
    with pytest.raises(ValueError, match="16 bytes"):
        Surrogates(b"short")


def test_dates_move_together_and_stay_as_written() -> None:
    assert shifted("03/14/1962", 7) == "03/21/1962"
    assert shifted("2023-12-30", 7) == "2024-01-06"
    assert shifted("30.12.2023", 7) == "06.01.2024"
    assert shifted("May 2nd", 7) == "May 9th"
    assert shifted("march fourteenth", 7) == "march twenty-first" or shifted("march fourteenth", 7) == "march twenty first"
    assert shifted("12 Sep 2023", -14) == "29 Aug 2023"
    assert shifted("99/99/1999", 7) is None
    made = Surrogates(SECRET, "c1")
    assert made.days % 7 == 0 and made.days != 0
    assert made.of("Friday", "DATE") == "[DATE]" or made.of("Friday", "DATE") == "Friday"


def test_block_says_what_but_not_whom(detector: PHIDetector) -> None:
    detector.block("I feel tired.")
    with pytest.raises(PHIFound) as caught:
        detector.block("I feel tired.", CASES["F"][0], CASES["G"][0])
    assert caught.value.counts == {"EMAIL": 1, "SSN": 1}
    assert "457" not in str(caught.value) and "jo.lee" not in str(caught.value)


def test_scan_counts_by_conversation(detector: PHIDetector) -> None:
    origin = Origin("own", "x.jsonl", "0" * 64, "1", "0" * 64, "CC0", "R")
    talks = [
        Conversation("a", [Turn("client", t) for t in TALK], origin),
        Conversation("b", [Turn("client", "I am tired.")], origin),
    ]
    counts = detector.scan(talks)
    assert list(counts) == ["a"] and counts["a"]["PHONE"] == 2 and counts["a"]["NAME"] >= 4


def test_logs_are_sanitised_with_their_arguments_and_tracebacks() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(Sanitiser())
    log = logging.getLogger("attunement.test.phi")
    log.addHandler(handler)
    log.propagate = False
    try:
        log.warning("asked by %s from %s", "jo.lee@mail.example.org", "81.2.69.160")
        try:
            raise RuntimeError("no such client: SSN 457-55-5462")
        except RuntimeError:
            log.exception("failed for MRN 0048213")
    finally:
        log.removeHandler(handler)
    told = stream.getvalue()
    assert "[EMAIL]" in told and "[IP]" in told and "Traceback" in told
    assert not re.search(r"jo\.lee|81\.2|457-55|0048213", told)


WORDS = "Mixture of Experts: %s from Lightning"
SAID = "Agnieszka Kowalczyk"


def records(*calls: Callable[[logging.Logger], None]) -> list[str]:
    """What a handler with the filter writes for each call."""
    stream = io.StringIO()
    log, handler = logging.getLogger("attunement.test.words"), logging.StreamHandler(stream)
    handler.addFilter(Sanitiser())
    log.addHandler(handler)
    log.propagate = False
    try:
        for call in calls:
            call(log)
            stream.write("\0")
    finally:
        log.removeHandler(handler)
    return [told.rstrip("\n") for told in stream.getvalue().split("\0")[:-1]]


def test_words_of_the_code_are_nobodys_name() -> None:
    what, steps = "Maria Gonzalez", 3
    told = records(
        lambda log: log.warning("Mixture of Experts in Lightning"),
        lambda log: log.warning("Mixture for %s in Lightning, %d%% of Boston", what, 5),
        lambda log: log.warning("Mixture of %(who)s, Lightning", {"who": what}),
        lambda log: log.warning(f"Mixture in Lightning: {what} has {steps} steps, Boston"),
        lambda log: log.warning(WORDS, what),
        lambda log: log.warning("Mixture of %s Lightning", "Mixture"),
    )
    assert told == [
        "Mixture of Experts in Lightning",
        "Mixture for [NAME] in Lightning, 5% of Boston",
        "Mixture of [NAME], Lightning",
        "Mixture in Lightning: [NAME] has 3 steps, Boston",
        "Mixture of Experts: [NAME] from Lightning",
        "Mixture of [NAME] Lightning",
    ]


def test_what_is_no_code_is_data_wherever_it_stands() -> None:
    said = "".join(("I am ", SAID, ", MRN 0048213"))

    def raised(log: logging.Logger, error: BaseException) -> None:
        try:
            try:
                raise error
            except ValueError as first:
                raise RuntimeError("second\nline of " + SAID) from first
        except RuntimeError:
            log.exception("failed")

    def elsewhere(log: logging.Logger) -> None:
        record = log.makeRecord(log.name, logging.ERROR, "gone.py", 1, "Mixture for %s", (SAID,), None)
        log.handle(record)  # as from a queue
        log.handle(record)  # and a second handler with the filter

    told = records(
        lambda log: log.warning(said),
        lambda log: log.warning("%*d %s", 3, 1, SAID),
        lambda log: log.warning("%s %r", ValueError(SAID), {"name": SAID}),
        lambda log: log.warning("".join(("Mixture %s of ", SAID)), "x"),
        lambda log: raised(log, ValueError("first\n  and " + SAID)),
        elsewhere,
    )
    for each in told:
        assert "[NAME]" in each and not re.search("Agnieszka|Kowalczyk|0048213", each), each
    assert told[4].count("Traceback") == 2 and "ValueError: first" in told[4] and "raise error" in told[4]
    record = logging.LogRecord("probe", logging.ERROR, "gone.py", 1, "%d", (SAID,), None)
    assert Sanitiser().filter(record) and record.getMessage() == "a message cannot be formatted: TypeError"
    assert told[5] == "Mixture for [NAME]\nMixture for [NAME]"


def test_sure_spans_win_and_rests_stay() -> None:
    text = "Anna Berg anna@x.test"
    email, name = PHISpan(10, 21, "EMAIL", 0.99, "F", "pattern:email"), PHISpan(0, 14, "NAME", 0.9, "A", "model")
    assert [(s.start, s.end, s.type) for s in merged([[email], [name]], text)] == [(0, 9, "NAME"), (10, 21, "EMAIL")]


def test_numbers_are_checked() -> None:
    assert luhn("4111 1111 1111 1111") and not luhn("4111 1111 1111 1112")
    assert iban("GB33BUKB20201555555555") and not iban("GB33BUKB20201555555556")
    assert age_of("ninety-two") == 92 and age_of("one hundred and three") == 103 and age_of("a 34") == 34


def test_the_command_gives_spans_a_line_for_a_line(tmp_path: Path) -> None:
    rows = [
        {"text": "My number is (212) 555-0188."},
        {"text": "Zorblax", "context": ["What is your name?"]},
        {"turns": [{"speaker": "client", "text": "I am tired."}, {"speaker": "client", "text": "Write to a@b.example.org"}]},
        {"other": 1},
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    command = ["quality", "score", "phi", "--input", tmp_path / "in.jsonl", "--output", tmp_path / "out.jsonl"]
    assert CliRunner().invoke(app, list(map(str, command))).exit_code == 4
    phone, name, talk, wrong = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert phone["label"] == "phi" and phone["reasons"] == ["D"] and phone["spans"][0]["type"] == "PHONE"
    assert [s["type"] for s in name["spans"]] == ["NAME"] and name["spans"][0]["recogniser"]
    assert [(s["turn"], s["safe_harbor"]) for s in talk["spans"]] == [(1, "F")]
    assert "error" in wrong
