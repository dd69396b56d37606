"""Recordings from addresses: the sound alone, politely, with its licence asked first, and nothing fetched twice.

yt-dlp finds the media of a page and fetches them. The licence stands before the sound: `extract_info` describes a recording, a page
that no site speaks for is asked for `rel="license"`, and what the settings do not allow is refused unless the user has permission.
A download that broke off is continued by HTTP ranges, in the same run and in a later one: the name of a file is a hash of what it
is, never its title. Beside `NAME.EXT` stands `NAME.json` with everything that is known of it; it is written last, so that what it
names is whole, and a later run reads it instead of the net.

Reason codes beside those of `media_site.py` and `audio.py`: `licence` (not allowed), `live` (has no end yet), `busy` (another
process fetches it), `description` (a broken file beside one of the user's).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attunement.config import VoiceSettings
from attunement.errors import DataError, RecordingError
from attunement.sources.voice.licences import UNKNOWN, licence_code, page_licence
from attunement.sources.voice.media_site import asking, checked, client, plain, shown
from attunement.sources.voice.recordings import SUBTITLES, described, from_row, local
from attunement.sources.voice.recordings import Failure as Failure
from attunement.sources.voice.recordings import Recording as Recording
from attunement.storage.files import atomic_write, content_hash, exclusive, read_json, write_json

MOST_PAGE_BYTES = 4_000_000
MOST_SUBTITLE_BYTES = 8_000_000
Tick = Callable[[str, int, int | None], None]


class Downloader:
    """Fetches recordings to `folder`. `tick` is told (title, bytes so far, bytes in all or None).

    A recording that `heard` says is done with is not fetched again where its sound was deleted since.
    """

    def __init__(
        self,
        settings: VoiceSettings,
        folder: Path,
        *,
        i_have_permission: bool = False,
        tick: Tick | None = None,
        heard: Callable[[Recording], bool] = lambda _: False,
    ) -> None:
        self.settings, self.folder, self.permission = settings, folder.absolute(), i_have_permission
        self._tick, self._site_made, self._titled = tick, None, ""
        self._heard = heard
        self._last: dict[str, float] = {}
        self._pages: dict[str, str] = {}
        self._asked: dict[str, str] | None = None

    def fetch(self, addresses: Iterable[str]) -> Iterator[Recording | Failure]:
        """Each recording that is behind an address (or at a path on this machine), or why there is none; the others go on."""
        for address in addresses:
            try:
                if "://" in address:
                    yield from self._behind(checked(address))
                else:
                    yield self.local(Path(address))
            except DataError as error:  # of a file's own description, where it is not a `RecordingError`
                yield _failure(address, error, "description")

    def local(self, path: Path) -> Recording:
        """A file of the user's own, whatever its licence. Raises `RecordingError`."""
        return local(path)

    # --- what is behind an address ----------------------------------------------------------------------------------

    def _behind(self, address: str) -> Iterator[Recording | Failure]:
        if (known := self._known_by_address(address)) is not None:
            self._allow(known.licence, address)
            yield known
            return
        site = self._site()
        site.began_at = address
        with asking(address):
            info = site.extract_info(address, download=False)
        single = (info or {}).get("_type", "video") == "video"
        none = True
        for one in self._media(info, address):
            none = False
            try:
                if isinstance(one, DataError):
                    raise one
                yield self._recording(one, address, single=single)
            except DataError as error:
                yield _failure(shown(one.get("webpage_url") or address) if isinstance(one, dict) else address, error, "busy")
        if none:
            raise RecordingError("no_media", f"there is no sound or video that can be read at {shown(address)}")

    def _media(self, info: Any, address: str) -> Iterator[dict[str, Any] | DataError]:
        """The media of a page or list, described one after the other: addresses of media do not last."""
        kind = (info or {}).get("_type", "video")
        if kind in ("playlist", "multi_video"):
            with asking(address):
                entries = [entry for entry in info.get("entries") or () if entry]
            for entry in entries:
                yield from self._media(entry, address)
        elif kind in ("url", "url_transparent"):
            try:
                with asking(str(info.get("url") or address)):
                    whole = self._site().process_ie_result(info, download=False)
            except RecordingError as error:
                yield error
            else:
                yield from self._media(whole, address)
        elif info:
            yield info

    def _site(self) -> Any:
        if self._site_made is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._site_made = client(self.settings, self.folder, self._progress)
        return self._site_made

    def _progress(self, told: Mapping[str, Any]) -> None:
        if self._tick is not None:
            total = told.get("total_bytes") or told.get("total_bytes_estimate")
            self._tick(self._titled, int(told.get("downloaded_bytes") or 0), int(total) if total else None)

    # --- one recording ----------------------------------------------------------------------------------------------

    def _recording(self, info: dict[str, Any], address: str, *, single: bool) -> Recording:
        where = shown(str(info.get("webpage_url") or address))
        stem = _stem(info, where)
        if (known := self._known(stem)) is not None:
            self._allow(known.licence, where)
            return known
        if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming"):
            raise RecordingError("live", f"{where} is broadcast live: fetch it when it has ended")
        said, info["license"] = info.get("license"), self._licence(info, address)
        self._allow(info["license"], where)
        with exclusive(self.folder / f".{stem}.lock", f"another process is fetching {where}: wait until it is done"):
            path = self._sound(info, stem, where)
            try:
                recording = described(info, path)
            except RecordingError:
                path.unlink(missing_ok=True)  # so that a later run asks for it again
                raise
            recording = replace(recording, url=where, subtitles=self._subtitles(info, stem))
            asked = shown(address) if single else ""
            row = {"asked": asked, "bytes": path.stat().st_size, "licence_said": said, "permission": self.permission}
            write_json(self.folder / f"{stem}.json", recording.row() | row)
            if asked and self._asked is not None:
                self._asked[asked] = stem
        return recording

    def _sound(self, info: dict[str, Any], stem: str, where: str) -> Path:
        """Fetches the sound, or what of it is missing."""
        site = self._site()
        self._wait(urlsplit(str(info.get("url") or where)).hostname or "")
        self._titled = plain(info.get("title")) or stem
        site.params["outtmpl"]["default"] = str(self.folder / stem).replace("%", "%%") + ".%(ext)s"
        with asking(where):
            done = site.process_ie_result(info, download=True)
        files = [Path(one["filepath"]) for one in (done or {}).get("requested_downloads") or () if one.get("filepath")]
        if not files or files[0].parent != self.folder or not files[0].is_file():
            raise RecordingError("no_media", f"there is no sound or video that can be read at {where}")
        return files[0]

    def _wait(self, host: str) -> None:
        """`pause_seconds` between downloads from one host."""
        rest = self._last.get(host, float("-inf")) + self.settings.pause_seconds - time.monotonic()
        if rest > 0:
            time.sleep(rest)
        self._last[host] = time.monotonic()

    # --- licence ----------------------------------------------------------------------------------------------------

    def _licence(self, info: Mapping[str, Any], address: str) -> str:
        """As its site says it; where no site speaks for it, as its page does."""
        site = str(info.get("extractor_key") or "")
        said = info.get("license")
        if said or site not in ("Generic", "HTML5MediaEmbed", "Html5MediaEmbed"):
            return licence_code(said, site=site)
        page = str(info.get("original_url") or info.get("webpage_url") or address)
        if page not in self._pages:
            self._pages[page] = self._stated(page, only_header=bool(info.get("direct")))
        return self._pages[page]

    def _stated(self, page: str, *, only_header: bool) -> str:
        from yt_dlp.networking.common import HEADRequest, Request

        try:
            with asking(page):
                answer = self._site().urlopen((HEADRequest if only_header else Request)(page))
                with answer:
                    kind = answer.headers.get("Content-Type") or ""
                    text = "" if only_header or "html" not in kind else answer.read(MOST_PAGE_BYTES).decode("utf-8", "replace")
                    return page_licence(text, answer.url, answer.headers.get("Link") or "")
        except RecordingError:
            return UNKNOWN

    def _allow(self, licence: str, where: str) -> None:
        if self.permission or licence in self.settings.licences:
            return
        told = (
            "no licence that is understood" if licence == UNKNOWN else f"the licence {licence}, which the settings do not allow"
        )
        raise RecordingError("licence", f"{shown(where)} states {told}: if you may use it, give --i-have-permission")

    # --- what is on disk --------------------------------------------------------------------------------------------

    def _known(self, stem: str) -> Recording | None:
        """The recording that an earlier run fetched whole."""
        row = _row(self.folder / f"{stem}.json")
        if not row:
            return None
        recording = from_row(row, self.folder)
        if recording.path.is_file() and recording.path.stat().st_size == row.get("bytes"):
            return recording
        if not recording.path.exists() and self._heard(recording):
            return recording
        recording.path.unlink(missing_ok=True)  # changed since: yt-dlp would take it for whole
        return None

    def _known_by_address(self, address: str) -> Recording | None:
        if self._asked is None:
            self._asked = {str(_row(record).get("asked") or ""): record.stem for record in sorted(self.folder.glob("*-*.json"))}
        stem = self._asked.get(shown(address))
        return self._known(stem) if stem else None

    def _subtitles(self, info: Mapping[str, Any], stem: str) -> Path | None:
        """The owner's subtitles in the wanted language, never automatic captions; None where they cannot be had."""
        tracks = info.get("subtitles") or {}
        wanted = self.settings.language
        names = [name for name in sorted(tracks) if name.split("-")[0].casefold() in (wanted, "und", "")]
        for name in names or (list(tracks) if len(tracks) == 1 and info.get("extractor_key") == "Generic" else []):
            for track in tracks[name]:
                suffix = f".{track.get('ext')}"
                timed = suffix in SUBTITLES and "m3u8" not in str(track.get("protocol") or "")
                if timed and (text := self._text(track)):
                    path = self.folder / f"{stem}{suffix}"
                    with atomic_write(path, binary=True) as file:
                        file.write(text)
                    return path
        return None

    def _text(self, track: Mapping[str, Any]) -> bytes:
        """The track, if it holds timed text."""
        if track.get("data"):
            text = str(track["data"]).encode()
        else:
            try:
                with asking(str(track["url"])), self._site().urlopen(str(track["url"])) as answer:
                    text = answer.read(MOST_SUBTITLE_BYTES)
            except RecordingError:
                return b""
        return text if b"-->" in text else b""


def _stem(info: Mapping[str, Any], where: str) -> str:
    """A name that says nothing but what it is: a page's title could lead out of the folder, or be somebody's name."""
    site = re.sub(r"[^a-z0-9]", "", str(info.get("extractor_key") or "page").casefold())[:24] or "page"
    of_page = where if site in ("generic", "html5mediaembed", "page") else ""
    return f"{site}-{content_hash([site, str(info.get('id')), of_page])[:20]}"


def _row(record: Path) -> dict[str, Any]:
    """What a record says; nothing where it is missing or broken: then its recording is fetched again."""
    try:
        row = read_json(record)
    except DataError:
        return {}
    return row if isinstance(row, dict) and row.get("path") else {}


def _failure(address: str, error: DataError, otherwise: str) -> Failure:
    return Failure(shown(address), error.reason if isinstance(error, RecordingError) else otherwise, shown(str(error)))
