"""Names by what stands before them (a title, an introduction), and by the turn before: 'What is your name?' 'Anna.'"""

from __future__ import annotations

import re
from collections.abc import Iterator

from attunement.security.phi.identifiers import PHISpan
from attunement.security.phi.patterns import Pattern, form

NATIONS = (
    "Christians|African American|Native American|Puerto Rican|Argentinian|Bangladeshi|Greenlandic|Palestinian|Australian|Indonesian|Lithuanian|Portuguese|Protestant|Republican|Vietnamese|"
    "Brazilian|Bulgarian|Caribbean|Colombian|Dominican|Ethiopian|Hungarian|Icelandic|Malaysian|Norwegian|Pakistani|Slovenian|Taiwanese|Ukrainian|"
    "American|Armenian|Austrian|Buddhist|Canadian|Catholic|Croatian|Democrat|Egyptian|Estonian|European|Filipino|Ghanaian|Hispanic|"
    "Jamaican|Japanese|Lebanese|Lutheran|Moroccan|Nigerian|Peruvian|Romanian|Scottish|African|Baptist|Belgian|British|Chilean|"
    "Chinese|English|Finnish|Haitian|Iranian|Israeli|Italian|Kurdish|Latvian|Mexican|Persian|Russian|Serbian|Spanish|"
    "Swedish|Turkish|Afghan|Danish|French|German|Indian|Jewish|Kenyan|Korean|Latina|Latino|Mormon|Muslim|"
    "Nepali|Polish|Slovak|Somali|Syrian|Asian|Cuban|Czech|Dutch|Greek|Hindu|Iraqi|Irish|Saudi|"
    "Swiss|Welsh|Arab|Sikh|Thai"
)
"""Nationalities, peoples, religions, parties: no Safe Harbor identifiers, told as what helps to recognise somebody."""
PART = r"[A-ZÀ-ÖØ-Þ][\w'’-]{1,24}"
PARTS = rf"{PART}(?: (?:{PART}|[A-Z]\.?|de|van|von|der|da|del|di|la|bin|al)(?![\w])){{0,3}}"
NAMES: tuple[Pattern, ...] = (
    form(
        "titled",
        "NAME",
        rf"(?<!\w)(?:Dr|Mr|Mrs|Ms|Prof|Rev|Fr|Sr)\.? (?P<value>(?:[A-Z]\. ?)?{PARTS}|[A-Z]\.)",
        "dr|mr|ms|prof|rev|fr|sr",
        score=0.93,
    ),
    form(
        "title",
        "TITLE",
        r"(?<!\w)(?:(?:Dr|Mr|Mrs|Ms|Prof|Rev)\.?|Miss|Professor|Doctor)(?= [A-ZÀ-ÖØ-Þ])",
        "dr|mr|ms|miss|prof|doctor|rev",
        score=0.9,
    ),
    form("nation", "NATIONALITY", rf"(?<!\w)(?:{NATIONS})s?(?!\w|['’-])", score=0.86),
    form(
        "introduced",
        "NAME",
        rf"(?<!\w)(?:[Mm]y (?:full |first |last |legal |real |maiden )?name(?:'s| is| was)|[Nn]ame is|[Cc]all me|[Cc]alled me|[Ii] go by|[Nn]ame:) {{1,4}}(?P<value>{PARTS})",
        "name|call|go by",
        score=0.92,
    ),
    form(
        "introduced_low",
        "NAME",
        r"(?i)(?<!\w)my (?:full |first |last )?name(?:'s| is) (?P<value>(?!not\b|on\b|in\b|the\b|a\b|so\b)[a-z'’-]{2,20})(?!\w)",
        "name",
        score=0.9,
    ),
    form(
        "initialled",
        "NAME",
        rf"(?<![\w.])(?P<value>{PART} [A-Z]\.)(?= ?(?:[,;:)]|was|is|has|who|with|had|seen|at|\(|$))",
        ".",
        score=0.75,
    ),
    form(
        "labelled",
        "NAME",
        rf"(?<!\w)(?:[Pp]atient|[Cc]lient|[Nn]ame|[Mm]other|[Ff]ather|[Gg]uardian|[Pp]rovider|[Tt]herapist|[Aa]ttending|[Cc]ontact|[Aa]ttn|[Aa]ttention)(?: name)?: {{0,8}}(?P<value>{PART} {PART})(?=[\n,;(]|$)",
        ":",
        score=0.85,
    ),
)
NICKNAMES = {
    "robert": "bob bobby rob robbie", "william": "bill billy will liam", "elizabeth": "liz lizzie beth betty eliza", "katherine": "kate katie kathy kat",
    "catherine": "cathy cate", "michael": "mike mikey mick", "richard": "rick dick richie rich", "james": "jim jimmy jamie", "john": "johnny jack",
    "margaret": "maggie meg peggy", "thomas": "tom tommy", "jennifer": "jen jenny jenn", "jessica": "jess jessie", "christopher": "chris", "christina": "tina chrissy",
    "daniel": "dan danny", "david": "dave davey", "matthew": "matt", "joseph": "joe joey", "anthony": "tony", "andrew": "andy drew", "steven": "steve",
    "stephen": "steve", "edward": "ed eddie ted", "samuel": "sam sammy", "samantha": "sam", "alexander": "alex", "alexandra": "alex sandra", "benjamin": "ben benny",
    "nicholas": "nick nicky", "patricia": "pat patty trish", "susan": "sue susie", "deborah": "deb debbie", "victoria": "vicky tori", "rebecca": "becky becca",
    "timothy": "tim timmy", "joshua": "josh", "zachary": "zach", "nathaniel": "nate", "charles": "charlie chuck", "kenneth": "ken kenny", "ronald": "ron ronnie",
    "donald": "don donnie", "gregory": "greg", "jeffrey": "jeff", "lawrence": "larry", "raymond": "ray", "peter": "pete", "philip": "phil", "amanda": "mandy",
    "isabella": "bella izzy", "abigail": "abby", "maria": "mia mariechen", "francisco": "paco pancho", "jose": "pepe", "anna": "annie anya anni", "emily": "em emmy",
}  # fmt: skip
FORMAL = {short: name for name, shorts in NICKNAMES.items() for short in shorts.split()}
"""Short forms of first names; `FORMAL` is the other way round."""
ASKED = re.compile(
    r"(?i)(?:\bname\b[^.?!]{0,40}\?|\bwho (?:am i (?:speaking|talking) (?:to|with)|is (?:this|calling)|are you)\b[^.?!]{0,30}\?|\bcall you\b[^.?!]{0,20}\?|\bwhat(?:'s| is) (?:his|her|their) name)"
)
"""A turn that asks for a name."""
ANSWER = re.compile(
    r"(?i)^\W{0,3}(?:(?:it'?s|its|it is|i'?m|i am|this is|he'?s|she'?s|um|uh|well|oh|just|sure|yes|ok(?:ay)?|hi|hello),? ){0,3}(?P<value>[^\W\d_][\w'’-]{1,24}(?: [^\W\d_][\w'’-]{1,24}){0,2})(?=\s*[.,!?]|\s*$|\s+(?:and|but|by)\b)"
)
NO_NAMES = frozenset(
    "yes no yeah nope why what who i you he she it we they my me not nothing nobody none sure okay ok well hello hi hey thanks please maybe "
    "sorry anonymous private um uh prefer rather can does do is was the a an don dunno idk good fine just call everyone".split()
)


def answered(question: str, answer: str) -> Iterator[PHISpan]:
    """The name in `answer`, the turn after one that asks for it."""
    if not ASKED.search(question[-400:]):
        return
    match = ANSWER.match(answer[:120])
    if match and not set(re.findall(r"[^\W\d_]+", match["value"].lower())) & NO_NAMES:
        yield PHISpan(match.start("value"), match.end("value"), "NAME", 0.85, "A", "context")
