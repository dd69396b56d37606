"""What a recording's publisher allows: the licence as sites word it, in the codes of `VoiceSettings.licences`, and as a page states it.

yt-dlp passes on what each site says: `Creative Commons Attribution license (reuse allowed)` (YouTube), `by-nc-nd` (Vimeo, SoundCloud),
`Attribution - Share Alike` (PeerTube), an address (archive.org). A page without such a site behind it may say it in HTML by
`rel="license"`, in schema.org's JSON-LD by `license`, or in the header `Link`. What is not understood is `unknown`, never free.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin

from attunement.sources.knowledge.licences import UNKNOWN as UNKNOWN
from attunement.sources.knowledge.licences import licence_class as class_of

_ADDRESS = re.compile(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)(?:/(\d\.\d))?", re.I)
_CODE = re.compile(
    r"(?:(?:cc|creative commons)[ -]*)?(by(?:-(?:nc|sa|nd))*)(?:[ -]v?(\d\.\d))?(?: international| unported)?", re.I
)
_SPDX = re.compile(r"cc-(by(?:-(?:nc|sa|nd))*)-(\d\.\d)(?:-[a-z]{2,3})?", re.I)
_WORDS = {"noncommercial": "nc", "sharealike": "sa", "noderivatives": "nd", "noderivs": "nd"}
_PUBLIC = ("public domain", "public domain mark", "public domain mark 1.0", "public-domain", "pdm", "mark")
_ZERO = ("cc0", "cc0-1.0", "cc0 1.0", "zero", "public domain dedication", "creative commons zero", "cc0 1.0 universal")
YOUTUBE_VERSION, LATEST_VERSION = "3.0", "4.0"
"""The one Creative Commons licence that YouTube offers links to CC BY 3.0 (opensource.stackexchange.com/questions/4218); elsewhere a
name without a version is taken for the latest."""


def licence_code(said: object, *, site: str = "") -> str:
    """`said` as a code such as `CC-BY-4.0`, `CC0-1.0` or `public-domain`; `unknown` where it is none of these. `site` is yt-dlp's name of it."""
    text = " ".join(str(said or "").split()).strip(" .")
    if not text:
        return UNKNOWN
    if found := _ADDRESS.search(text):
        return _named(found[1].lower(), found[2] or LATEST_VERSION)
    low = text.casefold()
    if low in _ZERO or low in _PUBLIC:
        return _named("zero" if low in _ZERO else "mark", "1.0")
    if found := _SPDX.fullmatch(low):
        return _named(found[1], found[2])
    version = YOUTUBE_VERSION if site.casefold().startswith("youtube") else LATEST_VERSION
    if found := _CODE.fullmatch(_short(low)):
        return _named(found[1].lower(), found[2] or version)
    return UNKNOWN


def licence_class(code: str) -> str:
    """R, SA, NC or N as for everything that is quoted here; `unknown` where nothing is stated."""
    return UNKNOWN if code == UNKNOWN else class_of(code)


def page_licence(html: str, address: str, link_header: str = "") -> str:
    """The licence that a page states, as a code. `unknown` where it states none, or several that differ."""
    reader = _Statements()
    reader.feed(html)
    reader.close()
    said = reader.media or reader.said  # what is said of a recording counts before what is said of the page
    said += re.findall(r"<([^<>]+)>\s*;[^,<]*rel=\"?license\b", link_header)
    codes = {licence_code(urljoin(address, one) if one.startswith(("/", "//")) else one) for one in said}
    return codes.pop() if len(codes) == 1 else UNKNOWN


def _short(low: str) -> str:
    """Words of a licence as its abbreviations: 'creative commons attribution-sharealike 4.0' is 'cc-by-sa 4.0'."""
    low = re.sub(r"\(reuse allowed\)|\(?https?://\S+\)?|\bthe\b|\blicen[cs]e\b|\bunder\b|\ba\b", " ", low)
    low = re.sub(r"non[- ]?commercial", "noncommercial", re.sub(r"share[- ]?alike", "sharealike", low))
    low = re.sub(r"no[- ]?deriv(?:ative)?(?:s| works)?", "noderivatives", low)
    low = re.sub(r"\battribution(?:-cc)?\b", "by", low)
    for word, short in _WORDS.items():
        low = low.replace(word, short)
    low = re.sub(r"\bby\b(?:[\s,-]|and)*(?=nc|sa|nd)", "by-", low)
    low = re.sub(r"\b(nc)(?:[\s,-]|and)*(?=sa|nd)", r"\1-", low)
    return " ".join(low.split())


def _named(kind: str, version: str) -> str:
    if kind == "zero":
        return "CC0-1.0"
    if kind in ("mark", "publicdomain", "public-domain"):
        return "public-domain"
    if not re.fullmatch(r"by(-nc)?(-sa|-nd)?", kind):
        return UNKNOWN
    return f"CC-{kind.upper()}-{version}"


class _Statements(HTMLParser):
    """What a page says of licences: `said` by links, `media` in JSON-LD about a recording."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.said: list[str] = []
        self.media: list[str] = []
        self._script: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        names = f"{values.get('rel', '')} {values.get('itemprop', '')}".casefold().split()
        if tag in ("a", "link", "area") and "license" in names and values.get("href"):
            self.said.append(values["href"])
        self._script = [] if tag == "script" and values.get("type", "").casefold() == "application/ld+json" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self._script.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script" and self._script is not None:
            with contextlib.suppress(ValueError, RecursionError):  # broken JSON states nothing
                self._read(json.loads("".join(self._script)))
        self._script = None

    def _read(self, data: Any) -> None:
        for node in _nodes(data):
            licence = node.get("license")
            licence = licence.get("@id") or licence.get("url") if isinstance(licence, dict) else licence
            if isinstance(licence, str):
                kinds = str(node.get("@type", ""))
                media = any(kind in kinds for kind in ("AudioObject", "VideoObject", "PodcastEpisode", "MediaObject", "Clip"))
                (self.media if media else self.said).append(licence)


def _nodes(data: Any) -> Iterator[dict[str, Any]]:
    if isinstance(data, dict):
        yield data
    for value in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from _nodes(value)
