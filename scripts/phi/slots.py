"""Made-up identifiers for training text: names of the world, places, numbers in many layouts. Needs the package faker (MIT)."""

from __future__ import annotations

import importlib
import random
import re
import string
from collections import Counter
from collections.abc import Callable
from typing import Any

from faker import Faker
from faker.config import AVAILABLE_LOCALES

LATIN = re.compile(r"^[A-Za-zÀ-ɏ'’ .-]{2,24}$")
CITY_FIELDS = ("cities", "city_names", "municipalities", "towns", "settlement_names", "cities_name")
LAYOUT_LOCALES = (
    "en_US",
    "en_GB",
    "en_AU",
    "en_CA",
    "de_DE",
    "fr_FR",
    "es_ES",
    "it_IT",
    "nl_NL",
    "pl_PL",
    "cs_CZ",
    "sv_SE",
    "da_DK",
    "fi_FI",
    "hu_HU",
    "pt_BR",
    "el_GR",
    "ru_RU",
    "tr_TR",
    "no_NO",
    "sl_SI",
    "is_IS",
)
US_CITIES = """New York|Los Angeles|Chicago|Houston|Phoenix|Philadelphia|San Antonio|San Diego|Dallas|Austin|Jacksonville|Columbus|Charlotte|Indianapolis
Seattle|Denver|Boston|Detroit|Nashville|Portland|Memphis|Las Vegas|Louisville|Baltimore|Milwaukee|Albuquerque|Tucson|Fresno|Sacramento|Mesa|Atlanta
Kansas City|Omaha|Miami|Oakland|Minneapolis|Tulsa|Tampa|New Orleans|Cleveland|Honolulu|Anaheim|Lexington|St. Louis|Pittsburgh|Cincinnati|Orlando
Newark|Toledo|Durham|Reno|Boise|Spokane|Tacoma|Little Rock|Salt Lake City|Des Moines|Providence|Brooklyn|Queens|Harlem|the Bronx|Manhattan|Staten Island
London|Manchester|Leeds|Glasgow|Cardiff|Belfast|Dublin|Toronto|Vancouver|Montreal|Sydney|Melbourne|Perth|Auckland|Paris|Berlin|Rome|Madrid|Lagos|Nairobi
Mumbai|Delhi|Karachi|Manila|Tokyo|Seoul|Cairo|Accra|Bogota|Lima|Springfield|Riverside|Greenville|Fairview|Madison|Georgetown|Franklin|Clinton|Salem"""
NATIONALITIES = """American|British|English|Irish|Scottish|Welsh|French|German|Italian|Spanish|Portuguese|Greek|Turkish|Polish|Czech|Hungarian|Romanian
Russian|Ukrainian|Swedish|Norwegian|Danish|Finnish|Dutch|Belgian|Swiss|Austrian|Canadian|Mexican|Cuban|Puerto Rican|Dominican|Brazilian|Argentinian|Chilean
Colombian|Peruvian|Nigerian|Ghanaian|Kenyan|Ethiopian|Somali|Egyptian|Moroccan|Syrian|Lebanese|Iraqi|Iranian|Persian|Afghan|Pakistani|Indian|Bangladeshi
Chinese|Japanese|Korean|Vietnamese|Thai|Filipino|Indonesian|Malaysian|Australian|Jamaican|Haitian|Israeli|Palestinian|Kurdish|Armenian|Serbian|Croatian
African American|Latina|Latino|Hispanic|Native American|Asian|Slovenian|Icelandic|Greenlandic|Estonian|Latvian|Lithuanian"""
JOBS = "CEO|CFO|director|chief of staff|head nurse|manager|attorney|spokesman|president|founder|professor|editor|Airport tower controller|Cinematographer|Financial analyst|Plumber|teacher|Social worker|Chairman|senior engineer"
TITLES = (
    "Dr.",
    "Mr.",
    "Mrs.",
    "Ms.",
    "Miss",
    "Prof.",
    "Dr",
    "Mr",
    "Mrs",
    "Ms",
    "Doctor",
    "Professor",
    "Sir",
    "Nurse",
    "Father",
    "Rev.",
    "Judge",
    "Coach",
    "Officer",
)
FACILITY = (
    "Hospital",
    "General Hospital",
    "Medical Center",
    "Clinic",
    "Health",
    "Health Center",
    "Children's Hospital",
    "Memorial Hospital",
    "Med Ctr",
    "Behavioral Health",
    "Counseling Center",
    "Recovery Center",
    "Hospice",
    "Family Practice",
    "Regional",
    "Community Hospital",
    "Rehab",
)
FAMOUS = "Mayo Clinic|Cleveland Clinic|UCSF|Johns Hopkins|Mount Sinai|Mt. Sinai|Cedars-Sinai|NYU Langone|Mass General|Stanford Health|UCLA Medical Center|Kaiser|Bellevue|Duke University Hospital|Brigham and Women's Hospital|Sloan Kettering|MD Anderson|Baylor|Emory|UPMC|NY Presbyterian|Northwestern Memorial|Guy's|Bart's|CHOP|VA hospital"
SCHOOLS = (
    "High School",
    "Middle School",
    "Elementary",
    "University",
    "College",
    "Academy",
    "State University",
    "Community College",
)
BUSINESS = (
    "Inc.",
    "LLC",
    "Ltd",
    "Corp",
    "Group",
    "& Sons",
    "Foods",
    "Logistics",
    "Bank",
    "Insurance",
    "Solutions",
    "Systems",
    "Analytics",
    "Partners",
    "Airlines",
    "Motors",
    "Media",
    "Studios",
    "Foundation",
    "Health",
    "Energy",
    "Books",
    "Software",
    "Labs",
)
KNOWN = "Walmart|Target|Amazon|Starbucks|Google|Microsoft|McDonald's|Costco|Home Depot|FedEx|UPS|Boeing|Ford|Tesla|IBM|Intel|Wells Fargo|Chase|Citibank|Verizon|Comcast|Delta|Nike|Ikea|Lidl|Tesco|Aetna|Cigna|Humana|Blue Cross|the Salvation Army|Red Cross|the Navy|the New York Times"
ORG_PARTS = "Opti Care Data Mind Net Info Bio Clear Blue Green Red North Sun Star Rock River Cloud Bright Core Open True Smart Pixel Prime Terra Nova Vita Medi Fin Agri Geo Hydro Quick Silver Gold Iron Stone Apex Zen Lum Vert Syn Cyto Pred App Kar Pers Mys Civ".split()
ORG_ENDS = (
    "soft tech ly io ware sys net lytics gix ent works ia ex is labs data mark ics edge hub gen wave mind istic eon ora".split()
)
SUFFIXES = (
    "Street",
    "St",
    "St.",
    "Avenue",
    "Ave",
    "Ave.",
    "Road",
    "Rd",
    "Lane",
    "Ln",
    "Drive",
    "Dr",
    "Court",
    "Ct",
    "Boulevard",
    "Blvd",
    "Way",
    "Place",
    "Square",
    "Terrace",
    "Loop",
    "Crescent",
    "Circle",
    "Trail",
    "Highway",
)
FOREIGN_STREETS = (
    "{}gata",
    "{}straße",
    "{}strasse",
    "{}straat",
    "{}laan",
    "{}katu",
    "{}tie",
    "{}vej",
    "{}vegen",
    "{} út",
    "{} utca",
    "Rua {}",
    "Rue de {}",
    "rue {}",
    "Via {}",
    "Calle {}",
    "Avenida {}",
    "ul. {}",
    "{}ova",
    "Piazzetta {}",
    "{} tér",
    "Plaza {}",
    "{}weg",
    "{}gasse",
    "Strada {}",
    "{}bakken",
    "Avenue {}",
    "Praceta {}",
    "{}skuja",
    "Οδός {}",
)
MONTHS = "January February March April May June July August September October November December".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
STATES = "AL AK AZ AR CA CO CT DE FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY".split()
STATE_NAMES = "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York State|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington State|West Virginia|Wisconsin|Wyoming|Ontario|Quebec|Bavaria|New South Wales|Queensland|Scotland|Wales|England|British Columbia|Alberta".split(
    "|"
)
UNIT, TEEN, TEN = (
    "one two three four five six seven eight nine".split(),
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(),
    "twenty thirty forty fifty sixty seventy eighty ninety".split(),
)
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth twentieth thirtieth twenty-first twenty third".split()


def lists() -> dict[str, Any]:
    """First names by gender and surnames, each with the number of locales that have it; cities; countries."""
    first: dict[str, Counter[str]] = {"m": Counter(), "f": Counter()}
    last: Counter[str] = Counter()
    cities: set[str] = set()
    countries: set[str] = set()
    for locale in sorted(AVAILABLE_LOCALES):
        for kind in ("person", "address"):
            try:
                provider = importlib.import_module(f"faker.providers.{kind}.{locale}").Provider
            except ImportError:
                continue
            own = lambda field: [x for x in getattr(provider, field, ()) or () if isinstance(x, str) and LATIN.match(x)]  # noqa: B023, E731
            if kind == "person":
                first["m"].update(set(own("first_names_male")))
                first["f"].update(set(own("first_names_female")))
                last.update({name for field in ("last_names", "last_names_male", "last_names_female") for name in own(field)})
            else:
                cities.update(name for field in CITY_FIELDS for name in own(field))
                if locale.startswith("en"):
                    countries.update(own("countries"))
    return {"m": first, "f": first["f"], "last": last, "cities": sorted(cities), "countries": sorted(countries)} | {
        "m": first["m"]
    }


def words(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in line.split("|") if part.strip()]


class Slots:
    """One value for each name of a slot, with its type (`''`: nothing to find). Lower-case names give lower-case values."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lists = lists()
        self.first = {g: list(self.lists[g]) for g in "mf"}
        self.common = {g: [n for n, _ in self.lists[g].most_common(900)] for g in "mf"}
        self.last, self.common_last = list(self.lists["last"]), [n for n, _ in self.lists["last"].most_common(2500)]
        self.cities, self.us = self.lists["cities"], words(US_CITIES)
        self.countries = self.lists["countries"]
        self.fakers = {locale: Faker(locale) for locale in LAYOUT_LOCALES}
        for i, faker in enumerate(self.fakers.values()):
            faker.seed_instance(seed + i)
        self.kinds: dict[str, tuple[str, Callable[[], str]]] = {
            "NAME": ("NAME", self.name), "FIRST": ("NAME", self.forename), "LAST": ("NAME", self.surname), "LASTN": ("NAME", self.surname),
            "NAMEDOT": ("NAME", self.name_dot), "TITLE": ("TITLE", lambda: self.rng.choice(TITLES)), "ORG": ("ORGANIZATION", self.company),
            "ORGNAMES": ("ORGANIZATION", self.partners), "CITY": ("LOCATION", self.city), "COUNTRY": ("LOCATION", self.country),
            "STATE": ("LOCATION", lambda: self.rng.choice(STATE_NAMES)), "ADDRESS": ("ADDRESS", self.address), "ADDRESS_L": ("ADDRESS", self.address),
            "STREETNUM": ("ADDRESS", self.street_number), "STREETNAME": ("ADDRESS", self.street), "ZIP": ("ZIP", self.zip),
            "FACILITY": ("LOCATION", self.facility), "SCHOOL": ("LOCATION", self.school), "DATE": ("DATE", self.date), "YEAR": ("DATE", self.year),
            "MONTH": ("DATE", lambda: self.rng.choice(MONTHS)), "MONTHYEAR": ("DATE", self.month_year), "WEEKDAY": ("DATE", lambda: self.rng.choice(DAYS)),
            "SPOKENDATE": ("DATE", self.spoken_date), "SPOKENYEAR": ("DATE", self.spoken_year), "AGE": ("AGE", lambda: str(self.rng.randint(3, 101))),
            "AGEWORD": ("AGE", self.age_word), "PHONE": ("PHONE", self.phone), "SPOKENPHONE": ("PHONE", self.spoken_phone), "FAX": ("FAX", self.phone),
            "EMAIL": ("EMAIL", self.email), "URL": ("URL", self.url), "IP": ("IP", lambda: self.fakers["en_US"].ipv4()), "SSN": ("SSN", lambda: self.fakers["en_US"].ssn()),
            "MRN": ("MRN", self.record), "PLAN": ("HEALTH_PLAN", self.record), "ACCOUNT": ("ACCOUNT", self.record), "LICENSE": ("LICENSE", self.record),
            "DEVICE": ("DEVICE", self.record), "IDNUM": ("ID", self.record), "CARD": ("ACCOUNT", lambda: self.fakers["en_US"].credit_card_number()),
            "IBAN": ("ACCOUNT", lambda: self.fakers[self.rng.choice(("en_GB", "de_DE", "fr_FR"))].iban()), "PLATE": ("VEHICLE", lambda: self.fakers[self.rng.choice(("en_US", "en_GB", "de_DE", "es_ES"))].license_plate()),
            "VIN": ("VEHICLE", lambda: self.fakers["en_US"].vin()), "JOB": ("", lambda: self.rng.choice(JOBS.split("|"))), "NATIONALITY": ("NATIONALITY", lambda: self.rng.choice(words(NATIONALITIES))),
            "TIME": ("", lambda: f"{self.rng.randint(1, 12)}:{self.rng.choice(('00', '15', '30'))}"), "N": ("", lambda: str(self.rng.choice((self.rng.randint(0, 12), self.rng.randint(10, 900))))),
            "EXPIRY": ("", lambda: f"{self.rng.randint(1, 12):02d}/{self.rng.randint(24, 32)}"),
        }  # fmt: skip

    def value(self, slot: str) -> tuple[str, str]:
        """The type and a new value of `slot`."""
        kind, make = self.kinds[slot.upper()]
        found = make()
        return kind, found.lower() if slot.islower() else found

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def odd(self, known: list[str]) -> str:
        """A name that nobody has: two halves of names joined."""
        a, b = self.rng.choice(known), self.rng.choice(known)
        return (a[: max(2, len(a) // 2)] + b[max(1, len(b) // 2) :].lower()).strip(" -'.")

    def forename(self) -> str:
        g = self.rng.choice("mf")
        name = (
            self.odd(self.first[g])
            if self.chance(0.12)
            else self.rng.choice(self.common[g] if self.chance(0.5) else self.first[g])
        )
        return name.upper() if self.chance(0.02) else name

    def surname(self) -> str:
        name = self.odd(self.last) if self.chance(0.12) else self.rng.choice(self.common_last if self.chance(0.4) else self.last)
        if self.chance(0.06):
            name = self.rng.choice(("van ", "de ", "von ", "O'", "Mc", "Al-", "da ", "van der ", "di ")) + name
        return f"{name}-{self.rng.choice(self.common_last)}" if self.chance(0.05) else name

    def name(self) -> str:
        roll = self.rng.random()
        if roll < 0.15:
            return self.forename()
        if roll < 0.25:
            return (
                f"{self.forename()} {self.rng.choice(string.ascii_uppercase)}{self.rng.choice(('', '.', '.'))} {self.surname()}"
            )
        if roll < 0.30:
            return f"{self.forename()} {self.forename()} {self.surname()}"
        if roll < 0.33:
            return f"{self.rng.choice(string.ascii_uppercase)}. {self.surname()}"
        if roll < 0.36:
            return f"{self.forename()} {self.surname()} {self.surname()}"
        return f"{self.forename()} {self.surname()}"

    def name_dot(self) -> str:
        return f"{self.forename()} {self.rng.choice(string.ascii_uppercase)}." if self.chance(0.7) else self.name()

    def company(self) -> str:
        roll = self.rng.random()
        if roll < 0.2:
            return self.rng.choice(KNOWN.split("|"))
        if roll < 0.45:
            return (
                self.rng.choice(ORG_PARTS)
                + self.rng.choice((*ORG_ENDS, *ORG_ENDS, *ORG_PARTS))
                + (f" {self.rng.choice(BUSINESS)}" if self.chance(0.3) else "")
            )
        if roll < 0.6:
            return f"{self.surname()} {self.rng.choice(BUSINESS)}"
        if roll < 0.72:
            return f"{self.surname()}-{self.surname()}"
        if roll < 0.8:
            return f"{self.city()} {self.rng.choice(BUSINESS)}"
        if roll < 0.88:
            return self.partners()
        return f"{self.rng.choice(ORG_PARTS)} {self.rng.choice(ORG_PARTS)} {self.rng.choice(BUSINESS)}"

    def partners(self) -> str:
        return f"{self.surname()}, {self.surname()} and {self.surname()}"

    def city(self) -> str:
        roll = self.rng.random()
        if roll < 0.3:
            found = self.rng.choice(self.us)
        elif roll < 0.4:
            found = self.fakers[self.rng.choice(("en_US", "en_GB", "en_AU"))].city()
        elif roll < 0.46:
            found = self.fakers[self.rng.choice(("el_GR", "ru_RU", "pt_BR", "cs_CZ"))].city()
        elif roll < 0.5:
            found = self.odd(self.cities)
        else:
            found = self.rng.choice(self.cities)
        if self.chance(0.06):
            found += f", {self.rng.choice(STATES)}"
        return found.upper() if self.chance(0.12) else found

    def country(self) -> str:
        return (
            self.rng.choice(("the US", "USA", "the UK", "England", "America"))
            if self.chance(0.12)
            else self.rng.choice(self.countries)
        )

    def street(self) -> str:
        roll = self.rng.random()
        if roll < 0.5:
            return f"{self.rng.choice((self.surname, self.forename, self.city))()} {self.rng.choice(SUFFIXES)}".replace(",", "")
        if roll < 0.75:
            return self.rng.choice(FOREIGN_STREETS).format(self.rng.choice((self.surname(), self.rng.choice(self.cities))))
        return self.fakers[self.rng.choice(LAYOUT_LOCALES)].street_name()

    def number(self) -> str:
        return (
            f"{self.rng.randint(1, 99)}" if self.chance(0.4) else f"{self.rng.randint(1, 99999):0{self.rng.choice((1, 4, 5))}d}"
        )

    def street_number(self) -> str:
        found = f"{self.street()} {self.number()}" if self.chance(0.35) else f"{self.number()} {self.street()}"
        return f"{self.number()} {found}" if self.chance(0.2) else found

    def zip(self) -> str:
        return self.fakers[self.rng.choice(LAYOUT_LOCALES)].postcode() if self.chance(0.4) else self.fakers["en_US"].postcode()

    def address(self) -> str:
        if self.chance(0.12):
            return self.fakers[self.rng.choice(LAYOUT_LOCALES)].address()
        found = self.street_number() if self.chance(0.93) else f"P.O. Box {self.number()}"
        for kind in ("Apt.", "Suite", "#", "Unit", "Floor"):
            if self.chance(0.1 if kind != "Apt." else 0.3):
                found += f"{self.rng.choice((' ', ', '))}{kind} {self.rng.randint(1, 999)}"
        gap = self.rng.choice((", ", ", ", "\n", " ", "\n "))
        parts = [self.city()]
        if self.chance(0.5):
            parts.append(self.rng.choice((self.rng.choice(STATES), self.rng.choice(STATE_NAMES), self.rng.choice(self.cities))))
        if self.chance(0.35):
            parts.append(self.country())
        last = f"{self.rng.choice((' ', ' ', ', ', gap))}{self.zip()}" if self.chance(0.7) else ""
        if self.chance(0.12):
            return f"{found}{gap}{self.zip()} {gap.join(parts)}"
        return f"{found}{gap}{self.rng.choice((', ', gap, chr(10) + ', ', ' ')).join(parts)}{last}"

    def facility(self) -> str:
        roll = self.rng.random()
        if roll < 0.25:
            found = self.rng.choice(FAMOUS.split("|"))
        elif roll < 0.45:
            found = (
                f"{self.rng.choice(('St.', 'Saint', 'St'))} {self.rng.choice(self.common[self.rng.choice('mf')])}{self.rng.choice(('', chr(39) + 's', chr(39) + 's'))}"
                + (f" {self.rng.choice(FACILITY)}" if self.chance(0.7) else "")
            )
        else:
            found = f"{self.rng.choice((self.city, self.city, self.surname))()} {self.rng.choice(FACILITY)}".replace(",", "")
        return f"{found}{self.rng.choice((', ', ' '))}{self.rng.choice(self.us)}" if self.chance(0.08) else found

    def school(self) -> str:
        return (
            f"University of {self.city()}"
            if self.chance(0.2)
            else f"{self.rng.choice((self.surname, self.city))()} {self.rng.choice(SCHOOLS)}".replace(",", "")
        )

    def year(self) -> str:
        return str(self.rng.randint(1925, 2026))

    def date(self) -> str:
        d, m, y = self.rng.randint(1, 28), self.rng.randint(1, 12), int(self.year())
        ending = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd"}.get(d, "th")
        month, short = MONTHS[m - 1], MONTHS[m - 1][:3]
        return self.rng.choice((
            f"{m}/{d}/{y}", f"{m:02d}/{d:02d}/{y}", f"{d}.{m}.{y}", f"{y}-{m:02d}-{d:02d}", f"{m}/{d}/{y % 100:02d}", f"{m}-{d}-{y % 100:02d}", f"{month} {d}, {y}",
            f"{month} {d}{ending}, {y}", f"{d} {month} {y}", f"{month} {d}", f"{month} {d}{ending}", f"{short} {d}", f"{short}. {d}, {y}", f"{d}-{short}-{y}",
            f"the {d}{ending} of {month}", f"{d}{ending} {month}", f"{m}/{d}", f"{self.rng.choice(DAYS)}, {month} {d}", f"{month} {y}", f"{short} {d} {y}",
        ))  # fmt: skip

    def month_year(self) -> str:
        return f"{self.rng.choice(MONTHS)} {self.year()}" if self.chance(0.7) else self.rng.choice(MONTHS)

    def two(self) -> str:
        roll = self.rng.random()
        return (
            self.rng.choice(TEEN)
            if roll < 0.3
            else f"{self.rng.choice(TEN)} {self.rng.choice(UNIT)}"
            if roll < 0.8
            else self.rng.choice(TEN)
        )

    def spoken_year(self) -> str:
        return (
            f"{self.rng.choice(('nineteen', 'nineteen', 'twenty'))} {self.two()}"
            if self.chance(0.7)
            else f"two thousand {self.rng.choice(UNIT)}"
        )

    def spoken_date(self) -> str:
        m, o = self.rng.choice(MONTHS), self.rng.choice(ORDINALS)
        return self.rng.choice((f"{m} {o}", f"the {o} of {m}", f"{m} {o} {self.spoken_year()}", f"{m} {self.rng.randint(1, 28)}"))

    def age_word(self) -> str:
        return self.two()

    def phone(self) -> str:
        if self.chance(0.45):
            a, b, c = (str(self.rng.randint(lo, hi)) for lo, hi in ((200, 989), (200, 999), (1000, 9999)))
            return self.rng.choice(
                (
                    f"{a}-{b}-{c}",
                    f"({a}) {b}-{c}",
                    f"{a}.{b}.{c}",
                    f"{a} {b} {c}",
                    f"+1 {a} {b} {c}",
                    f"{b}-{c}",
                    f"1-{a}-{b}-{c}",
                    f"{a}{b}{c}",
                    f"{b} {c}",
                )
            )
        return self.fakers[self.rng.choice(LAYOUT_LOCALES)].phone_number()

    def spoken_phone(self) -> str:
        return " ".join(self.rng.choice(("oh", "zero", *UNIT)) for _ in range(self.rng.choice((7, 10))))

    def email(self) -> str:
        return self.fakers[self.rng.choice(LAYOUT_LOCALES)].ascii_email()

    def url(self) -> str:
        found = self.fakers["en_US"].url()
        return self.rng.choice(
            (found, found[8:].strip("/"), "www." + found[8:].strip("/"), found + "people/" + self.forename().lower())
        )

    def record(self) -> str:
        letters = "".join(self.rng.choice(string.ascii_uppercase) for _ in range(self.rng.randint(1, 4)))
        digits = "".join(self.rng.choice(string.digits) for _ in range(self.rng.randint(4, 10)))
        return self.rng.choice(
            (
                digits,
                digits,
                letters + digits,
                f"{letters}-{digits}",
                f"#{digits}",
                f"#{letters}-{digits}",
                f"{digits[:3]}-{digits[3:5] or 77}-{digits[5:] or 123}",
                f"{digits}{letters[:1]}",
                f"{digits}-{letters}",
            )
        )
