"""Whether a number that has the form of an identifier can be one: check digits, ranges, ages in words."""

from __future__ import annotations

import ipaddress
import re

UNITS = tuple("one two three four five six seven eight nine".split())
TEENS = tuple("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split())
TENS = tuple("twenty thirty forty fifty sixty seventy eighty ninety".split())
NUMBERS = {word: i for i, word in enumerate(["zero", *UNITS, *TEENS])} | {word: 10 * i for i, word in enumerate(TENS, 2)}
VIN_VALUES = {
    c: v for v, row in enumerate(("0", "1AJ", "2BKS", "3CLT", "4DMU", "5ENV", "6FW", "7GPX", "8HY", "9RZ")) for c in row
}
VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
NUMERIC_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
YEARS = re.compile(r"(?:1[89]|20)\d\d\D(?:1[89]|20)\d\d")


def age_of(text: str) -> int | None:
    """The first number in `text`, in digits or in words up to a hundred and nineteen."""
    if digits := re.search(r"\d{1,3}", text):
        return int(digits[0])
    words = re.findall(r"[a-z]+", text.lower())
    total = 100 * ("hundred" in words)
    found = [NUMBERS[word] for word in words if word in NUMBERS and not (word == "one" and total)]
    return total + sum(found[:2]) if found or total else None


def luhn(number: str) -> bool:
    """Whether the check digit of a card's number is right."""
    digits = [int(c) for c in number if c.isdigit()]
    if not 12 <= len(digits) <= 19:
        return False
    doubled = [d if i % 2 == 0 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0 and len(set(digits)) > 1


def iban(number: str) -> bool:
    """Whether the check digits of an international account number are right (ISO 13616)."""
    plain = re.sub(r"[^0-9A-Za-z]", "", number).upper()
    return plain.isascii() and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def vin(number: str) -> bool:
    """Whether a vehicle identification number has letters and digits and, in North America, the right check digit."""
    if not (re.search(r"\d", number) and re.search(r"[A-Za-z]", number)):
        return False
    rest = sum(VIN_VALUES[c] * w for c, w in zip(number.upper(), VIN_WEIGHTS, strict=True)) % 11
    return number[8].upper() == ("X" if rest == 10 else str(rest)) or number[0] not in "12345"


def ip(text: str) -> bool:
    """Whether `text` is an address of IPv4 or IPv6 that names a machine."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return False
    return found.version == 4 or text.count(":") > 2


def phone(text: str) -> bool:
    """Seven to fifteen digits that are neither a date nor a span of years."""
    return 7 <= len(re.sub(r"\D", "", text)) <= 15 and not YEARS.fullmatch(text) and not NUMERIC_DATE.fullmatch(text)


def day_and_month(text: str) -> bool:
    """Whether a date in figures has a month and a day that there are, in any order."""
    parts = [int(part) for part in re.findall(r"\d+", text)[:3]]
    small = [part for part in parts if part <= 31]
    return len(small) >= 2 and min(small) >= 1 and min(small) <= 12
