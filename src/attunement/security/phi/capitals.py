"""Names and places by lists and capitals: what is left when the tagger has marked nothing.

A run of words with capitals inside a sentence is somebody or somewhere, unless the words are usual ones. Lists (first names, surnames,
cities; `scripts/phi/slots.py`) say which, else what stands before: 'in' and 'from' a place, a legal form after it a company. In text
without capitals only common first names and cities after 'in', 'from', 'to' count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from attunement.security.phi.identifiers import PHISpan, letter
from attunement.security.phi.words import Lists, Word

TO_PLACES = frozenset("in from near at to around outside visit visiting visited leaving left reached toward towards".split())
LEGAL = frozenset(
    "inc llc ltd corp corporation company co group bank foundation insurance airlines partners holdings gmbh plc".split()
)
PARTICLES = frozenset("de van von der da del di la bin al den ter du le o mc".split())
NOT_NAMES = frozenset(
    "i i'm ok okay god jesus christ lord bible christmas easter thanksgiving halloween ramadan hanukkah internet facebook instagram google youtube netflix "
    "reddit whatsapp tv pc dvd id usa uk eu us adhd ptsd ocd bpd cbt dbt emdr act mi aa na hr er icu gp md phd lcsw lmft lpc dsm icd phq gad hiv aids copd ssri "
    "mom dad mum mama papa grandma grandpa mother father aunt uncle sis bro doctor dr mr mrs ms miss prof therapist client counselor counsellor caller patient "
    "user bot agent nurse zoloft prozac xanax lexapro ativan lithium sertraline fluoxetine english spanish french german monday tuesday wednesday thursday friday "
    "saturday sunday january february march april may june july august september october november december iban mrn ssn dob ssid uti utis cc re ps lol omg wtf btw idk imo tx pt hx dx nan".split()
)
KIN = frozenset("Grandma Grandpa Aunt Uncle Auntie Mama Papa".split())
STREETS = frozenset(
    "street st avenue ave road rd boulevard blvd drive lane ln court ct circle place square terrace parkway highway loop way trail crescent calle rua rue via "
    "avenida plaza piazza piazzetta strada praceta ul utca út tér nábřeží".split()
)
STREET_ENDINGS = tuple("gata gatan vägen straße strasse straat laan katu tie vej vegen weg gasse gade ova bakken plein".split())
COMMON_ENDING = re.compile(r"(?:ings?|ly|tion|tions|able|ers|ness|ment|ments|ism|ize|ous|ful|ive)$")
"""Of words that begin a sentence, stand in no list and are hardly names."""
UNITS = frozenset("apt apartment suite ste unit floor box".split())
MOST_OF_ADDRESS = 24
MONTHS = frozenset(
    "january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec".split()
)
SENTENCE_END = frozenset('.!?:\n"“”•*>-–(')


def by_capitals(words: Sequence[Word], text: str, lists: Lists) -> Iterator[PHISpan]:
    """What capitals and lists give away in a text, with scores of 0.5 (a guess) to 0.8 (first name and surname)."""
    shouted = sum(w.text.isupper() and len(w.text) > 1 for w in words) > 0.5 * sum(w.text.isalpha() for w in words)
    yield from addresses(words, text, lists)
    at = 0
    while at < len(words):
        end = at if shouted or not _capital(words[at]) else _run(words, at)
        if end > at:
            yield from _judged(words, at, end, text, lists)
            at = end
        else:
            if words[at].text.islower():
                yield from _low(words, at, text, lists)
            at += 1


def addresses(words: Sequence[Word], text: str, lists: Lists) -> Iterator[PHISpan]:
    """Postal addresses of any country: a number, then words with capitals and more numbers, with a street's word, a unit, or two numbers."""
    at = 0
    for begin in [i for i, word in enumerate(words) if word.spaced and word.text.isdigit()]:
        if begin < at:
            continue
        at = begin
        end = _address(words, at, lists)
        inside = [w for w in words[at:end] if w.text.isalpha() and w.text.lower() not in NOT_NAMES]
        numbers = sum(w.text.isdigit() for w in words[at:end])
        street = any(w.text.lower() in STREETS or w.text.lower().endswith(STREET_ENDINGS) for w in inside)
        unit = any(w.text.lower() in UNITS for w in inside)
        rare = any(not lists.has(w.text)[5] and w.text.lower() not in MONTHS for w in inside if _capital(w) or len(w.text) > 4)
        long = max((len(w.text) for w in words[at:end] if w.text.isdigit()), default=0) > 1
        if rare and long and (street or unit or numbers > 1) and not any(w.text.lower() in MONTHS for w in inside[:1]):
            yield _span("ADDRESS", words[at].start, words[end - 1].end, 0.86 if street or unit else 0.7, text)
            at = end


def _address(words: Sequence[Word], at: int, lists: Lists) -> int:
    """Where what may be an address ends."""
    end = last = at + 1
    while end < min(len(words), at + MOST_OF_ADDRESS):
        word = words[end]
        if (
            _capital(word)
            or word.text.isdigit()
            or (_rare(word, lists) and words[end - 1].text.isdigit())
            or (word.text.isupper() and end > at + 1)
            or word.text.lower() in UNITS | {"nan"}
        ):
            end += 1
            last = end
        elif word.text in {",", ".", "\n", "-", "'", "’", "#", "/"} or word.text.lower() in PARTICLES | {"the", "of"}:
            if (word.text == "." and len(words[end - 1].text) > 4) or (word.text == "\n" and words[end - 1].text == "\n"):
                break
            end += 1
        else:
            break
    return last


def _rare(word: Word, lists: Lists) -> bool:
    return len(word.text) > 4 and word.text.isalpha() and not lists.has(word.text)[5] and word.text not in MONTHS


def _capital(word: Word) -> bool:
    return word.text[:1].isupper() and len(word.text) > 1


def _named(words: Sequence[Word], at: int) -> bool:
    return at < len(words) and _capital(words[at]) and words[at].text.lower() not in NOT_NAMES


def _run(words: Sequence[Word], at: int) -> int:
    """Where the run of words with capitals that begins at `at` ends: with initials, hyphens and particles inside."""
    end = at
    while end < len(words):
        word = words[end]
        glued = word.text in {"-", "'", "’", "."} and not word.spaced and end > at
        if _capital(word) and (word.text.lower() not in NOT_NAMES or (end == at and word.text in KIN and _named(words, end + 1))):
            end += 1
        elif end > at and word.text.isupper() and len(word.text) == 1 and word.text != "I":
            end += 1 + (end + 1 < len(words) and words[end + 1].text == ".")
        elif end > at and (glued or word.text in PARTICLES) and end + 1 < len(words) and _capital(words[end + 1]):
            if (word.text == "." and len(words[end - 1].text) > 2) or (glued and words[end + 1].spaced and word.text != "."):
                break
            end += 1
        else:
            break
    return end


def _judged(words: Sequence[Word], at: int, end: int, text: str, lists: Lists) -> Iterator[PHISpan]:
    starts = at == 0 or words[at - 1].text in SENTENCE_END
    has = {i: lists.has(words[i].text) for i in range(at, end) if words[i].text.isalpha()}
    while (
        starts
        and at < end
        and at in has
        and has[at][5]
        and not (has[at][4] and at + 1 < end and at + 1 in has and not has[at + 1][5])
    ):
        at, starts = at + 1, False  # a usual word with a capital because it begins the sentence
    parts = [i for i in range(at, end) if i in has and len(words[i].text) > 1]
    if not parts:
        return
    flags = [has[i] for i in parts]
    usual = sum(f[5] for f in flags) / len(flags)
    before = words[at - 1].text.lower() if at else ""
    start, stop = words[at].start, words[end - 1].end
    if words[parts[-1]].text.lower() in LEGAL and len(parts) > 1:
        yield _span("ORGANIZATION", start, stop, 0.75, text)
    elif len(parts) > 1 and flags[0][0] and (flags[-1][1] or not flags[-1][5]):
        yield _span("NAME", start, stop, 0.8, text)
    elif all(f[3] for f in flags) or (all(f[2] or f[3] for f in flags) and before in TO_PLACES):
        yield _span("LOCATION", start, stop, 0.75, text)
    elif usual == 1 and not (flags[0][4] and not starts and len(parts) == 1 and before not in {"the", "a", "an", "my"}):
        return
    elif any(f[0] or f[1] for f in flags) and before not in TO_PLACES - {"from", "to", "left"}:
        yield _span("NAME", start, stop, 0.7, text)
    elif any(f[2] for f in flags) or before in TO_PLACES:
        yield _span("LOCATION", start, stop, 0.6, text)
    elif (
        usual < 1
        and not words[parts[0]].text.isupper()
        and not (starts and len(parts) == 1 and COMMON_ENDING.search(words[parts[0]].text))
    ):
        yield _span("NAME", start, stop, 0.5, text)


def _low(words: Sequence[Word], at: int, text: str, lists: Lists) -> Iterator[PHISpan]:
    word = words[at]
    if len(word.text) < 3 or not word.text.isalpha():
        return
    if (first := lists.has(word.text))[5] or word.text in NOT_NAMES:
        return
    before = words[at - 1].text.lower() if at else ""
    if (first[3] or first[2]) and before in {"in", "from", "to", "near"}:
        yield _span("LOCATION", word.start, word.end, 0.6, text)
    elif first[4] and re.fullmatch(r"[a-z]{3,}", word.text):
        yield _span("NAME", word.start, word.end, 0.6, text)


def _span(kind: str, start: int, end: int, score: float, text: str) -> PHISpan:
    return PHISpan(start, end, kind, score, letter(kind, text[start:end]), "lists")
