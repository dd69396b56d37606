"""Identifiers that have a form: numbers, addresses of the net and of the post, and what a cue before them gives away.

Every expression is written for linear time: a run is entered only at its first character (a look-behind of the same class), every
repetition is bounded, and what links a cue to its number is never given back. `tests/security/test_phi_patterns.py` tries each on
50,000 hostile characters. What is marked stands in the group `value`; without one it is the whole match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from attunement.security.phi import checks
from attunement.security.phi.identifiers import PHISpan, letter

DIGIT, NUMBER_SAID = "digit", "number"


@dataclass(frozen=True)
class Pattern:
    """`check` refuses what has the form but not the content. `first`: the expression is tried only on texts that have one of these
    (in lower case). `needs`: only on texts with a digit (`DIGIT`), or with one or a number that is spelled (`NUMBER_SAID`)."""

    name: str
    type: str
    expression: re.Pattern[str]
    check: Callable[[str], bool] | None = None
    first: tuple[str, ...] = ()
    score: float = 0.9
    needs: str = ""

    def spans(self, text: str, lowered: str) -> Iterator[PHISpan]:
        """What it finds in `text`; `lowered` is the same in lower case."""
        if self.first and not any(cue in lowered for cue in self.first):
            return
        group = "value" if "value" in self.expression.groupindex else 0
        for match in self.expression.finditer(text):
            found = match[group]
            if found and (self.check is None or self.check(found)):
                start, end = match.span(group)
                yield PHISpan(start, end, self.type, self.score, letter(self.type, found), f"pattern:{self.name}")


def form(
    name: str,
    kind: str,
    expression: str,
    first: str = "",
    check: Callable[[str], bool] | None = None,
    score: float = 0.9,
    needs: str = "",
) -> Pattern:
    """A pattern that stands by its form alone; `first` are its cues, with `|` between."""
    return Pattern(name, kind, re.compile(expression), check, tuple(first.split("|")) if first else (), score, needs)


NUMBER = r"(?:\b(?:n(?:umbers?|um|br|o|r)|ids?|code)\b\.?|#)"
LINK_BEGINS = r"(?=[acefhimnorstuw#:=(–,-])"
"""Tried before forty words are: where letters of either case are meant, `re` does not look at the first ones by itself."""
LINK = rf"(?:[ \t]{{0,3}}+{LINK_BEGINS}(?:{NUMBER}|\b(?:i(?:s|t's|ts|n)|w(?:as|ith)|a(?:re|s|nd|t)|o[fn]|under|ending|called|reads|t(?:heir|he|o)|my|h(?:is|er)|for|says)\b|[:=(–,-]))"
ID = r"#?(?<![A-Za-z0-9])(?=[A-Za-z/-]{0,8}\d)[A-Za-z0-9](?:[A-Za-z0-9]|[-/.](?=[A-Za-z0-9])){2,30}(?![A-Za-z0-9])"
SPACED = rf"{ID}(?: (?=[A-Z0-9]{{0,5}}\d)[A-Z0-9]{{2,6}}\b){{0,5}}"
SPELLED = r"(?=[defnostz])(?:(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple|dash)[ ,-]{1,2}){3,24}(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)\b"


def cued(
    name: str,
    kind: str,
    cues: str,
    first: str,
    value: str = rf"(?:{SPACED}|{SPELLED})",
    score: float = 0.9,
    needs: str = NUMBER_SAID,
) -> Pattern:
    """A number after one of `cues`, with at most six linking words between them."""
    near = r"(?=\D{0,100}+\d)" if needs == DIGIT else ""  # six links and what stands before a digit are 79 characters at most
    expression = rf"(?i)(?<![a-z0-9])(?=[a-z])(?:{cues})(?![a-z]){near}{LINK}{{0,6}}+[ \t\n]{{0,3}}+(?P<value>{value})"
    return Pattern(name, kind, re.compile(expression), None, tuple(first.split("|")), score, needs)


DIALLED = r"(?:\+?\d{1,3}[ .-]?)?(?:\(\d{1,5}\)[ .-]{0,2})?\d{2,5}(?:[ .-]\d{2,5}){1,4}(?:[ ,]{1,2}(?:x|ext\.?|extension)[ .]?\d{1,6}\b|x\d{1,6}\b)?"
HOST = r"(?:[\w-]{1,63}\.){1,6}"
ENDINGS = (
    r"(?:com|org|net|edu|gov|mil|info|biz|io|me|tv|health|app|dev|co\.uk|org\.uk|ac\.uk|nhs\.uk|ca|de|fr|es|it|nl|se|no|dk|fi|pl|hu|cz|at|ch|be|us|au"
    r"|nz|br|ru|jp|eu|ie|pt|gr|is|si|za|in)"
)

NET = (
    form("email", "EMAIL", rf"(?<![\w.+%-])[\w.+%-]{{1,64}}@{HOST}[A-Za-z]{{2,24}}(?![\w@-])", "@", score=0.99),
    form(
        "spoken_email",
        "EMAIL",
        r"(?i)(?<![\w.])\w{2,40}(?: (?:dot|underscore) \w{1,30}){0,3} at \w{2,40}(?: dot \w{2,12}){0,2} dot (?:com|org|net|edu|gov|co|uk|de|ca|info)\b",
        " dot ",
    ),
    form("url", "URL", r"(?i)(?<!\w)(?:https?|ftp)://[^\s<>\"')\]}]{2,400}(?<![.,;:!?])", "://", score=0.99),
    form(
        "www", "URL", rf"(?i)(?<![\w@./-])www\.{HOST}[a-z]{{2,24}}(?:/[^\s<>\"')\]}}]{{0,300}})?(?<![.,;:!?])", "www.", score=0.98
    ),
    form(
        "domain",
        "URL",
        rf"(?<![\w@./-])(?:[A-Za-z0-9][\w-]{{1,62}}\.){{1,4}}{ENDINGS}(?:\.[a-z]{{2}})?(?:/[^\s<>\"')\]}}]{{0,300}})?(?<![.,;:!?])(?![\w@]|\.\w)",
        ".",
        score=0.85,
    ),
    form("ipv4", "IP", r"(?<![\w.-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)", ".", checks.ip, 0.97, needs=DIGIT),
    form("ipv6", "IP", r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:])", ":", checks.ip, 0.97),
    form("mac", "DEVICE", r"(?<![\w:-])[0-9A-Fa-f]{2}(?:[:-][0-9A-Fa-f]{2}){5}(?![\w:-])", score=0.97),
    cued(
        "handle",
        "URL",
        r"(?:twitter|instagram|insta|snapchat|tiktok|facebook|telegram|discord|skype|user ?name|handle)",
        "twitter|insta|snap|tiktok|facebook|telegram|discord|skype|name|handle",
        r"@\w{2,30}",
        0.85,
        needs="",
    ),
)
"""Addresses of the net."""

NUMBERS = (
    form("ssn", "SSN", r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])", "-", score=0.97, needs=DIGIT),
    cued(
        "ssn_cue",
        "SSN",
        r"ssn|social security|social(?= (?:number|is|no))|soc\.? sec\.?",
        "ssn|soc",
        rf"(?:(?<!\d)\d{{3}}[ -]?\d{{2}}[ -]?\d{{4}}(?!\d)|(?<![\w-])(?:[x*]{{3}}-?[x*]{{2}}-?)?\d{{4}}(?![\w-])|{SPELLED})",
        0.98,
    ),
    cued(
        "mrn",
        "MRN",
        r"mrn?|m\.r\.n\.?|medical records?|(?:hospital|patient|clinic|chart|record|case|unit)(?= ?(?:number|no\b|nr|#|id\b))|nhs(?= number)|patient(?= #)|chart",
        "mr|m.r|medical record|number|id|#|no|chart",
        score=0.95,
    ),
    cued(
        "health_plan",
        "HEALTH_PLAN",
        r"(?:health|medical|dental)? ?insurance|health ?plan|insurance plan|policy|member(?:ship)?(?= ?(?:number|no\b|#|id\b))|subscriber|beneficiary|medicare|medicaid|hicn|mbi|group(?= (?:number|no\b|#|id\b))|(?:aetna|cigna|humana|kaiser|blue cross|bcbs|united ?healthcare|anthem|tricare|plan)",
        "insur|plan|policy|member|subscriber|benefic|medica|hicn|mbi|group|aetna|cigna|humana|kaiser|blue cross|bcbs|united|anthem|tricare",
        score=0.93,
    ),
    cued(
        "account",
        "ACCOUNT",
        r"(?:bank|checking|savings|billing|patient|customer)? ?(?:account|acct\.?|a/c)|routing|sort code|invoice|(?:credit|debit|bank)? ?card|iban",
        "account|acct|a/c|routing|sort|invoice|card|iban",
        score=0.9,
    ),
    cued(
        "license",
        "LICENSE",
        r"(?:driver'?s?|driving|nursing|medical|professional|state|therapist|pilot'?s?)? ?licen[cs]e|licen[cs]ed|dl|certificat(?:e|ion)|cert|passport|npi|dea|permit|registration|lpc|lcsw|lmft",
        "licen|dl|cert|passport|npi|dea|permit|registration|lpc|lcsw|lmft",
        score=0.93,
    ),
    cued(
        "plate",
        "VEHICLE",
        r"(?:licen[cs]e|number|registration|car|vehicle|tag)? ?plates?|licen[cs]e tag|vehicle (?:registration|tag)|(?:car|vehicle)(?= (?:reg|registration|tag)) (?:reg(?:istration)?|tag)|vin|vehicle identification",
        "plate|tag|vin|vehicle|reg",
        rf"(?:{SPACED}|(?-i:[A-Z]{{2,4}}[ -]?\d{{2,5}}[A-Z]{{0,3}}|\d{{1,4}}[ -]?[A-Z]{{2,4}}(?:[ -]?\d{{1,4}})?))",
        0.93,
        needs=DIGIT,
    ),
    cued(
        "device",
        "DEVICE",
        r"serial|s/n|sn|imei|udi|device|model(?= (?:number|no\b))|lot(?= (?:number|no\b|#))|pacemaker|defibrillator|implant|insulin pump|pump|glucose monitor|cgm|cpap|hearing aid|prosthesis",
        "serial|s/n|sn|imei|udi|device|model|lot|pacemaker|defib|implant|pump|monitor|cgm|cpap|aid|prosth",
        score=0.92,
    ),
    form(
        "vin",
        "VEHICLE",
        r"(?i)(?<![A-Z0-9])(?=[A-Z]{0,12}\d)[A-HJ-NPR-Z0-9]{17}(?![A-Z0-9])",
        check=checks.vin,
        score=0.9,
        needs=DIGIT,
    ),
    form(
        "iban",
        "ACCOUNT",
        r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{2,4}){3,8}(?![A-Za-z0-9])",
        check=checks.iban,
        score=0.98,
        needs=DIGIT,
    ),
    form("card", "ACCOUNT", r"(?<![\w-])\d(?:[ -]?\d){11,18}(?![\w-])", check=checks.luhn, score=0.95, needs=DIGIT),
    cued(
        "fax",
        "FAX",
        r"fax(?:ed|es)?(?: (?:it|me|them|us|to|at|on)){0,3}|facsimile|f",
        "fax|facsimile|f:",
        rf"(?:(?<![\w-]){DIALLED}(?!\w)|{SPELLED})",
        0.96,
    ),
    cued(
        "phone_cue",
        "PHONE",
        r"(?:tele)?phone|tel|cell(?:phone)?|mobile|landline|pager|voicemail|whatsapp|call(?: (?:me|us|him|her|them|back|at|on))?|text(?: (?:me|us|him|her|them|at|on))?|reach(?:ed)?(?: (?:me|us|him|her|them|at|on)){0,2}|dial|ring(?: me)?|home|work|office|my number|number|contact",
        "phone|tel|cell|mobile|land|pager|voicemail|whatsapp|call|text|reach|dial|ring|home|work|office|number|contact",
        rf"(?:(?<![\w-])(?:{DIALLED}|\+?\d{{7,15}})(?!\w)|{SPELLED})",
        0.93,
    ),
    form(
        "phone_us",
        "PHONE",
        r"(?<![\w.-])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?:[ ,]{0,2}(?:x|ext\.?|extension)[ .]?\d{1,6})?(?![\w-])",
        score=0.93,
        needs=DIGIT,
    ),
    form("phone_short", "PHONE", r"(?<![\w.-])\d{3}[ -]\d{4}(?![\w-])", score=0.7, needs=DIGIT),
    form(
        "phone_abroad",
        "PHONE",
        r"(?<![\w.])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{2,5}){1,5}(?![\w-])",
        "+",
        checks.phone,
        0.93,
        needs=DIGIT,
    ),
    form(
        "phone_groups",
        "PHONE",
        r"(?<![\w.+,-])(?:\(0\d{1,4}\)|0\d{1,4})(?:[ .-]\d{2,5}){1,4}(?![\w-])",
        check=checks.phone,
        score=0.8,
        needs=DIGIT,
    ),
    cued(
        "other_id",
        "ID",
        r"(?:study|subject|participant|sample|specimen|accession|referral|claim|case|employee|student|client|tracking|reference|ref|booking|prescription|rx|site|lab|trial|encounter|visit|badge|inmate|file|confirmation|order|appointment|personal|national|tax|voter|identification|staff|room key)",
        "id|number|#|no|ref|rx|code|file|case",
        value=rf"(?:{ID})",
        score=0.86,
        needs=DIGIT,
    ),
    cued(
        "id",
        "ID",
        r"unique identifier|identifier|id(?: (?:number|card|no|badge))?|unique code",
        "id",
        value=rf"(?:{SPACED})",
        score=0.75,
        needs=DIGIT,
    ),
    form("code", "ID", r"(?<![\w/#-])#?[A-Z]{2,6}-\d{4,10}(?:-\d{1,6})?(?![\w-])", "-", score=0.7, needs=DIGIT),
    form(
        "phone_pairs",
        "PHONE",
        r"(?<![\w.,+/-])\d{2,4}([ -])\d{2,4}\1\d{2,4}(?:\1\d{2,4}){0,2}(?![\w-]|[.,/]\d)",
        check=checks.phone,
        score=0.66,
        needs=DIGIT,
    ),
    form(
        "letters_and_digits",
        "ID",
        r"(?<![\w/#.-])(?:[A-Z]{1,5}-?\d{4,12}(?:-?[A-Z0-9]{1,8}){0,2}|\d{2,4}-[A-Z]{2,4}-\d{3,8})(?![\w-])",
        score=0.65,
        needs=DIGIT,
    ),
    form(
        "spelled",
        "PHONE",
        rf"(?i)(?<![\w-]){SPELLED}",
        "one|two|three|four|five|six|seven|eight|nine|zero",
        lambda found: len(found.split()) > 6,
        0.8,
        needs=NUMBER_SAID,
    ),
    form("long_number", "ID", r"(?<![\w.,/$£€+-])\d{8,20}(?![\w%]|[.,/]\d)", score=0.6, needs=DIGIT),
)
"""Numbers, by their form or by the word before them."""

STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Drive|Dr|Lane|Ln|Court|Ct|Circle|Cir|Place|Pl|Square|Sq|Terrace|Ter|Parkway|Pkwy|Highway|Hwy"
    r"|Way|Trail|Trl|Alley|Close|Crescent|Mews|Row|Walk)"
)
STATES = (
    r"(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])"
)
FACILITY = (
    r"(?:Hospital|Clinic|Medical Cent(?:er|re)|Health Cent(?:er|re)|Med Ctr|Med Center|Health System|Healthcare|Medical Group|Infirmary|Hospice|Rehab"
    r"|Counseling Center|Wellness Center|Treatment Center|High School|Elementary|Middle School|University|College|Academy|Church|Shelter)"
)
PLACES = (
    form(
        "street",
        "ADDRESS",
        rf"(?<![\w#-])\d{{1,6}}[A-Za-z]?(?: (?:[NSEW]\.?|[NS][EW]|North|South|East|West))?(?: [A-Z0-9][\w'’.-]{{0,24}}){{1,4}} {STREET}\b\.?(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Floor|#)\.? ?#?\w{{1,6}})?",
        check=None,
        score=0.93,
        needs=DIGIT,
    ),
    form("po_box", "ADDRESS", r"(?i)(?<!\w)p\.? ?o\.? ?box \d{1,7}\b", "box", score=0.93, needs=DIGIT),
    form(
        "zip",
        "ZIP",
        rf"\b(?:{STATES},?|(?i:zip(?: ?code)?|postcode|postal code)(?: is|:)?) (?P<value>\d{{5}}(?:-\d{{4}})?)(?![\w-])",
        score=0.95,
        needs=DIGIT,
    ),
    form(
        "zip_cue",
        "ZIP",
        r"(?i)(?<!\w)(?:zip(?: ?code)?|postcode|postal code|plz)(?: is|:)? {0,8}(?P<value>(?=[A-Z]{0,4} ?\d)[A-Z0-9]{3,8}(?:[ -][A-Z0-9]{2,4})?)(?![\w-])",
        "zip|post|plz",
        score=0.93,
        needs=DIGIT,
    ),
    form(
        "corner",
        "ADDRESS",
        r"(?i)(?<!\w)the corner of (?:\d{1,5} )?\w[\w.'’]{0,24}(?: [\w.'’]{1,24}){0,4}? (?:and|&) (?:\w[\w.'’]{0,24} ){0,3}?(?:\w{1,24}(?:st|street|ave|road|rd|way|lane|court|courts|loop|pass|blvd|gata|katu|straße|vej|square|plaza|drive)\b\.?|(?-i:[A-ZÀ-Þ]\w{1,24}(?: [A-Z]\w{1,24})?))",
        "the corner of",
        score=0.86,
    ),
    form(
        "postcode",
        "ZIP",
        r"(?<!\w)(?:[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[A-Z] \d[A-Z]\d)(?!\w)",
        score=0.85,
        needs=DIGIT,
    ),
    form(
        "facility",
        "LOCATION",
        rf"(?<![\w'’.-])(?:(?!{FACILITY}\b)[A-Z][\w'’&-]{{1,24}}\.?(?: (?:of|and|the|for|&))?+(?: the)?+ ){{1,5}}+{FACILITY}\b(?: (?:of|at) [A-Z]\w{{1,24}}(?: [A-Z]\w{{1,24}})?)?(?!['’]s)",
        "hospi|clinic|health|med |medical|infirmary|rehab|center|school|elementary|university|college|academy|church|shelter",
        score=0.85,
    ),
    form(
        "facility_low",
        "LOCATION",
        r"(?<![\w'’.-])(?:[A-Z][\w'’&-]{0,24}\.? ){1,4}+(?:(?:downtown|medical|community|mental health|psychiatric|walk-in) )?(?:clinic|hospital|med(?:ical)?\.? center|emergency room|ER|office)(?!\w)",
        "clinic|hospital|center|er|office",
        score=0.7,
    ),
    form(
        "treated_at",
        "LOCATION",
        r"(?<!\w)(?:seen|treated|admitted|hospitali[sz]ed|evaluated|diagnosed|discharged|transferred|referred|checked in|surgery|presented|presenting|visit)(?: in| at| to| from)(?: the| our)? (?P<value>[A-Z][\w'’&.-]{0,24}(?: (?:of|and|&|[A-Z][\w'’&-]{0,24}\.?)(?= |[,;?!)]|\.?$)){0,5}(?<![ .]))",
        " at | to | in | from ",
        score=0.7,
    ),
    form(
        "saint",
        "LOCATION",
        r"(?<!\w)(?:St\.? |Mt\.? |Mount )[A-Z][\w]{2,20}(?:['’]s)?(?= (?:on|in|for|after|last|by)\b|[.,;?!)]|$)",
        "st|mt|mount",
        score=0.6,
    ),
)
"""Places with a form of their own."""

SEEN = (
    form(
        "voice_recording",
        "BIOMETRIC",
        r"(?i)(?<!\w)(?:voice ?prints?|voice (?:samples?|recordings?|biometrics?|signature|memos?|id)|(?:audio|recording|recordings|tapes?) of (?:my|his|her|their|our|the (?:client|patient)'?s?) (?:voice|sessions?)|voice[ -]?mail recording|(?<![.-])[\w-]{1,60}\.(?:wav|mp3|m4a|ogg|flac|opus))(?!\w)",
        "voice|audio|record|tape|.wav|.mp3|.m4a|.ogg|.flac|.opus",
        score=0.8,
    ),
    form(
        "fingerprint",
        "BIOMETRIC",
        r"(?i)(?<!\w)(?:(?:finger|thumb|palm|hand|foot)[ -]?prints?(?: scans?)?|(?:retinal?|iris|face|facial|palm|vein) (?:scans?|recognition|id|templates?|prints?)|face ?prints?|gait (?:recognition|signature)|dna (?:profile|sample|sequence)|genetic (?:profile|fingerprint)|biometric (?:data|scan|template|id|identifier|record)s?)(?!\w)",
        "print|scan|recogni|face|dna|genetic|gait|biometric|iris|retina|palm|vein",
        score=0.8,
    ),
    form(
        "photo",
        "PHOTO",
        r"(?i)(?<!\w)(?:(?=[fhimpsw])(?:(?:full[ -]face |face |facial |profile |passport |id |identification |family |school |wedding )?(?:photo(?:graph)?s?|pictures?|selfies?|headshots?|mug ?shots?|portraits?) of (?:me|us|him|her|them|myself|herself|himself|(?:my|his|her|our|their|the (?:patient|client)'?s?) (?:face|son|daughter|wife|husband|kids?|children|family|mother|mom|father|dad|brother|sister|baby|partner|boyfriend|girlfriend))|(?:full[ -]face|facial|passport|id|identification|profile) (?:photo(?:graph)?s?|pictures?|images?)|headshots?|mug ?shots?|selfies?|photo ids?)|(?<![.-])[\w-]{1,60}\.(?:jpe?g|png|heic|gif|bmp|tiff?|webp))(?!\w)",
        "photo|picture|selfie|shot|portrait|.jp|.png|.heic|.gif|.bmp|.tif|.webp|image",
        score=0.75,
    ),
)
"""Voices, prints and pictures, as far as a text tells of them or names their files."""
