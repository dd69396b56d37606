"""Dates and ages: in figures, with names of months, as they are spoken, and with the words that make a number an age."""

from __future__ import annotations

from attunement.security.phi import checks
from attunement.security.phi.patterns import DIGIT, form

MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MONTH = r"(?=[adfjmnos])(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
LONG_MONTH = r"(?:January|February|April|June|July|August|September|October|November|December)"
CUES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
ORDINAL = (
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth|fifteenth|sixteenth"
    r"|seventeenth|eighteenth|nineteenth|twentieth|thirtieth|(?:twenty|thirty)[ -](?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth))"
)
UNIT, TEEN, TEN = ("|".join(words) for words in (checks.UNITS, checks.TEENS, checks.TENS))
TWO_DIGITS = rf"(?:(?:{TEN})(?:[ -](?:{UNIT}))?|{TEEN}|oh[ -](?:{UNIT}))"
SPOKEN_YEAR = rf"(?:(?:nineteen|eighteen|twenty)[ -]{TWO_DIGITS}|two thousand(?:(?: and)? (?:{TWO_DIGITS}|{UNIT}))?)"
YEAR = r"(?:1[89]\d\d|20[0-4]\d)"
DAY = r"(?:0?[1-9]|[12]\d|3[01])"
OF_YEAR = rf"(?:,?[ \n]{{1,2}}(?:of )?(?:{YEAR}|['’]\d\d|{SPOKEN_YEAR})(?!\d)|,{YEAR}(?!\d))?"
AGE_WORDS = rf"(?:\d{{1,3}}|(?:a |one )?hundred(?: and)?(?: {UNIT})?|{TWO_DIGITS}|{UNIT})"

DATES = (
    form(
        "date_figures",
        "DATE",
        r"(?<![\w./-])\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d{2})(?![\w/-]|\.\d)",
        check=checks.day_and_month,
        score=0.95,
        needs=DIGIT,
    ),
    form(
        "date_iso",
        "DATE",
        r"(?<![\w./-])(?:1[89]|20)\d\d([./-])\d{1,2}\1\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2})?(?:Z|[+-]\d{2}:?\d{2})?)?(?![\w/-]|\.\d)",
        check=checks.day_and_month,
        score=0.97,
        needs=DIGIT,
    ),
    form(
        "date_month_day",
        "DATE",
        rf"(?i)(?<!\w){MONTH},? (?:the )?(?:{DAY}(?:st|nd|rd|th)?(?![\d:%]| ?(?:am|pm|years?|percent)\b)|{ORDINAL}){OF_YEAR}(?!\w)",
        CUES,
        score=0.96,
    ),
    form(
        "date_day_month",
        "DATE",
        rf"(?i)(?<![\w/.-])(?=[\defnst])(?:the )?(?P<value>(?:{DAY}(?:st|nd|rd|th)?|{ORDINAL})(?: day)?(?: of|-)?[ -]?{MONTH}(?:-\d{{2,4}}|{OF_YEAR}))(?!\w)",
        CUES,
        score=0.95,
    ),
    form("date_month_year", "DATE", rf"(?i)(?<!\w){MONTH},? (?:of )?(?:{YEAR}|['’]\d\d|{SPOKEN_YEAR})(?!\w)", CUES, score=0.95),
    form(
        "date_year_month",
        "DATE",
        r"(?<![\w./-])(?:(?:19|20)\d\d[/-](?:0[1-9]|1[0-2])|(?:0?[1-9]|1[0-2])/(?:19|20)\d\d)(?![\w/-])",
        score=0.9,
        needs=DIGIT,
    ),
    form(
        "date_short",
        "DATE",
        rf"(?i)(?<!\w)(?:on|since|from|until|till|by|before|after|dated?|dob|born|seen|visit|appointment|admitted|discharged|due)(?: on)?:? (?P<value>(?:0?[1-9]|1[0-2])/{DAY})(?![\w/-]|\.\d)",
        "/|-",
        score=0.85,
        needs=DIGIT,
    ),
    form(
        "date_month",
        "DATE",
        rf"(?<!\w){LONG_MONTH}(?!\w)",
        "january|february|april|june|july|august|september|october|november|december",
        score=0.6,
    ),
    form(
        "date_month_cue",
        "DATE",
        rf"(?i)(?<!\w)(?:(?:in|since|until|by|early|late|mid|of) (?P<value>(?!may\b(?! \d)){MONTH}|(?-i:May)))(?!\w|['’])",
        CUES,
        score=0.7,
    ),
    form("date_last_month", "DATE", rf"(?i)(?<!\w)(?:last|next|this) (?!may\b|march\b){MONTH}(?!\w|['’])", CUES, score=0.7),
    form(
        "date_day_cue",
        "DATE",
        rf"(?i)(?<!\w)(?:on|until|by|since|before) (?P<value>the (?:{DAY}(?:st|nd|rd|th)|{ORDINAL}(?= (?:of (?:this|last|next) month|at|i|we|he|she|they)\b|[.,;?!])))(?!\w)",
        "the ",
        score=0.6,
    ),
    form(
        "birth_year",
        "DATE",
        rf"(?i)(?<!\w)(?:born|since|in|from|until|year|during|of) (?P<value>{SPOKEN_YEAR})(?!\w)",
        "nineteen|twenty|thousand",
        score=0.7,
    ),
    form("weekday", "DATE", r"(?i)(?<!\w)(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday)s?(?!\w)", "day", score=0.5),
    form(
        "year",
        "DATE",
        r"(?<![\w.,/$£€#+-])(?:1[89]\d\d|20[0-4]\d)(?![\w%-]|[.,/]\d| (?:mg|ml|calories|kcal|people|dollars|hours|miles|words|patients)\b)",
        score=0.6,
        needs=DIGIT,
    ),
)
"""Dates; years and weekdays without anything more have no Safe Harbor letter."""

AGES = (
    form(
        "age_year_old",
        "AGE",
        rf"(?i)(?<![\w.,-])(?=[\daefhnost])(?P<value>{AGE_WORDS})[ -]?(?:years?|yrs?\.?)[ -]?(?:old|of age)\b",
        "old|age",
        score=0.95,
    ),
    form(
        "age_short",
        "AGE",
        r"(?i)(?<![\w.,-])(?P<value>\d{1,3})[ -]?(?:y/?o\b|y\.o\.|yrs? ?old|(?=(?:m|f)\b[ ,]))",
        score=0.9,
        needs=DIGIT,
    ),
    form(
        "age_cue",
        "AGE",
        rf"(?i)(?<!\w)(?:aged?|aged about|at the age of|at age|age of|age:|age is|turn(?:ed|s|ing)?(?: just)?|would(?: have)? be(?:en)?)[ :]{{0,2}}(?P<value>{AGE_WORDS})(?![\w%$]|[.,:]\d| (?:percent|minutes|hours|days|times|pages))",
        "age|turn|would",
        score=0.85,
    ),
    form(
        "age_after_name",
        "AGE",
        r"(?<!\w)[A-Z][a-z]{1,20}(?:, | \()(?P<value>[1-9]\d|1[01]\d)(?=[,)](?![ ]?\d)(?! (?:19|20)\d\d))",
        score=0.6,
        needs=DIGIT,
    ),
    form(
        "age_i_am",
        "AGE",
        r"(?i)(?<!\w)(?=[hisw])(?:i'?m|i am|i was|he is|he's|he was|she is|she's|she was|who is|who's|is now|was only|was just|is only|is just) (?:now |only |just |almost |nearly |about )?(?P<value>\d{1,3})(?=[.,;!?)]? ?(?:$|and|now|years?|female|male|with|so|when|but|single|married|\n|who|this|[A-Z])|[.,;!?)])(?! ?%|[.,:]\d)",
        score=0.7,
        needs=DIGIT,
    ),
)
"""Ages; up to 89 they have no Safe Harbor letter."""
