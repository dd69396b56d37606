"""What a guess must be to count: diseases with a person's name, words that are no names, dates without anything of a date are none."""

from __future__ import annotations

import re

from attunement.security.phi.capitals import NOT_NAMES
from attunement.security.phi.identifiers import TYPES, PHISpan
from attunement.security.phi.words import Lists

AFTER_EPONYM = re.compile(
    r"(?:['’]?s)?[ -](?:disease|syndrome|lymphoma|score|scores|criteria|reflex|scale|risk|test|sign|palsy|chorea|sarcoma|method|inventory|index|classification|stage"
    r"|thyroiditis|dementia|arthritis|esophagus|contracture|fracture|type|disorder|complex|effect|therapy|model|questionnaire|infection)\b"
)
EPONYMS = frozenset(
    "alzheimer alzheimers hodgkin hodgkins parkinson parkinsons crohn crohns cushing lyme asperger aspergers tourette tourettes huntington hashimoto graves wilson "
    "bell raynaud sjogren guillain-barre guillain-barré rorschach beck likert framingham glasgow apgar chaddock pseudomonas".split()
)
NUMERALS = re.compile(r"(?:I{1,3}|IV|V|VI{1,3}|IX|X)")
LEAST_DATE = re.compile(
    r"(?i)\d(?:\d{3}|[./-]\d|st|nd|rd|th)|a(?:pr|ug)|d(?:ay|ec)|eight|f(?:eb|irst|ift|ort)|j(?:an|u[ln])|ma[ry]|n(?:ov|inet)|oct"
    r"|s(?:ep|econd|ixt|eventi)|t(?:een|went|hirt|hird|h\b)"
)
FRACTION, LEAST_OF_FRACTION = re.compile(r"\d{1,3}[/.-]\d{1,3}"), 0.6
"""Pain of 7/10 is no date."""
LEAST_AGE = re.compile(
    r"(?i)(?=[\defhnst])(?:\d|ty\b|teen|ty[ -]|hundred|eleven|twelve|ten\b|nine|eight|seven|six|five|four|three)"
)
NUMBERED = frozenset(TYPES) - {
    "NAME",
    "ORGANIZATION",
    "LOCATION",
    "ADDRESS",
    "DATE",
    "AGE",
    "TITLE",
    "NATIONALITY",
    "EMAIL",
    "URL",
    "BIOMETRIC",
    "PHOTO",
}
SPELLED = re.compile(r"(?i)(?:(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)\b[ ,-]*){4}")
MOST_WITHOUT_NUMBER = 40
"""Characters of an address without any number."""
AROUND, LEAST_FOREIGN = 90, 3
FUNCTION_WORDS = re.compile(
    r"\b(?:que|los|las|una|para|con|está|estás|pero|como|cómo|muy|más|por|del|tu|su|mi|se|te|y|el|la|es|en|lo|und|der|das|ist|nicht|ich|ein|eine|mit"
    r"|les|des|est|pas|une|avec|dans|je|vous|che|della|sono|não|uma|com)\b"
)
"""Of Spanish, German, French, Italian and Portuguese: three different ones within 90 characters to each side."""
LOW = 0.9
"""A guess in lower case, in a text that has capitals, needs this score or a place in the lists."""


def plausible(span: PHISpan, text: str, lists: Lists) -> bool:
    """Whether a guess of the tagger, or of lists and capitals, can be what it is said to be."""
    found = text[span.start : span.end]
    if span.type == "DATE":
        return bool(LEAST_DATE.search(found)) and (span.score >= LEAST_OF_FRACTION or not FRACTION.fullmatch(found))
    if span.type == "AGE":
        return bool(LEAST_AGE.search(found))
    if span.type in NUMBERED:
        return sum(c.isdigit() for c in found) > 1 or bool(SPELLED.match(found)) or (span.type == "VEHICLE" and found.isupper())
    if span.type == "EMAIL":
        return "@" in found or " at " in found.lower()
    if span.type == "ADDRESS":
        return any(c.isdigit() for c in found) or len(found) < MOST_WITHOUT_NUMBER
    if span.type not in {"NAME", "ORGANIZATION", "LOCATION"}:
        return True
    low = found.lower()
    if low in EPONYMS or NUMERALS.fullmatch(found) or (low in NOT_NAMES and low != "may"):
        return False
    if span.type == "NAME" and " " not in found and AFTER_EPONYM.match(text, span.end):
        return False
    if not re.search(r"[^\W\d_]{2}", found) and not found[:1].isupper():
        return False
    if found.islower() and not text.islower():
        parts = [lists.has(part) for part in re.findall(r"[^\W\d_]{2,}", found)]
        if len(parts) > 1:
            return span.type != "NAME" or (parts[0][0] and (parts[-1][0] or parts[-1][1]) and len(parts) < 5)
        return all((known[0] or known[1] or known[2] or span.score >= LOW) and not known[5] for known in parts)
    return True


def foreign(span: PHISpan, text: str) -> bool:
    """Whether what stands around is not English: guesses by capitals and by the words beside say little there."""
    around = text[max(0, span.start - AROUND) : span.end + AROUND]
    return len(set(FUNCTION_WORDS.findall(around.lower()))) >= LEAST_FOREIGN


def sure_enough(span: PHISpan, text: str) -> bool:
    """Whether a guess counts among words that are not English: a name with capitals, of which the tagger or both lists are sure."""
    found = text[span.start : span.end]
    if span.type not in {"NAME", "LOCATION", "ORGANIZATION", "ADDRESS", "NATIONALITY", "TITLE"}:
        return True
    return found[:1].isupper() and span.score >= (0.8 if span.recogniser == "lists" else LOW)
