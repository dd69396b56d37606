"""A recording that is on disk, with where it is from and what its publisher allows; and the user's own files as recordings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from attunement.readers.sets import own_set
from attunement.sources.voice.audio import probe
from attunement.sources.voice.captions import caption_segments
from attunement.sources.voice.licences import UNKNOWN, licence_class, licence_code
from attunement.sources.voice.media_site import plain, shown
from attunement.storage.files import file_hash, read_json

SUBTITLES = (".vtt", ".srt")


@dataclass(frozen=True)
class Chapter:
    """A part of a recording as its owner named it; the end is None where it is not stated."""

    title: str
    start_seconds: float
    end_seconds: float | None = None


@dataclass(frozen=True)
class Recording:
    """A file with sound in it. `licence` is a code of `licences.py`, `licence_class` R, SA, NC, N or unknown.

    `source_type` is `youtube`, or empty: the content must tell. `fault` is a line on what is missing of it, empty for a whole file.
    `upload_date` is YYYYMMDD. No address here holds a name, a password or a token.
    """

    path: Path
    url: str = ""
    title: str = ""
    channel: str = ""
    licence: str = UNKNOWN
    licence_class: str = UNKNOWN
    duration_seconds: float = 0.0
    chapters: Sequence[Chapter] = ()
    subtitles: Path | None = None
    source_type: str = ""
    sha256: str = ""
    upload_date: str = ""
    fault: str = ""

    def row(self) -> dict[str, Any]:
        """As plain data; paths as names within the folder of the recording."""
        return asdict(self) | {"path": self.path.name, "subtitles": self.subtitles.name if self.subtitles else None}


@dataclass(frozen=True)
class Failure:
    """Why an address or a file gave no recording: a reason code and one line. `url` holds no password."""

    url: str
    reason: str
    told: str


def from_row(row: Mapping[str, Any], folder: Path) -> Recording:
    """What `row()` gave, back. Names are taken without folders, so a row leads nowhere else."""
    values = {name: row[name] for name in Recording.__dataclass_fields__ if name in row}
    values["path"] = folder / Path(row["path"]).name
    values["subtitles"] = folder / Path(row["subtitles"]).name if row.get("subtitles") else None
    values["chapters"] = tuple(Chapter(**chapter) for chapter in row.get("chapters", ()))
    return Recording(**values)


def described(info: Mapping[str, Any], path: Path) -> Recording:
    """The recording at `path` as yt-dlp's `info` describes it, with what its sound says. Raises `RecordingError`."""
    site = str(info.get("extractor_key") or "")
    sound, code = probe(path), licence_code(info.get("license"), site=site)
    chapters = tuple(
        Chapter(plain(c.get("title")), float(c["start_time"]), float(c["end_time"]) if c.get("end_time") else None)
        for c in info.get("chapters") or ()
        if c.get("start_time") is not None
    )
    return Recording(
        path=path,
        url=shown(str(info.get("webpage_url") or "")),
        title=plain(info.get("title")) or path.stem,
        channel=plain(info.get("channel") or info.get("uploader") or info.get("artist")),
        licence=code,
        licence_class=licence_class(code),
        duration_seconds=sound.duration_seconds,
        chapters=chapters,
        source_type="youtube" if site.casefold().startswith("youtube") else "",
        sha256=sound.sha256,
        upload_date=str(info.get("upload_date") or ""),
        fault=sound.fault,
    )


def local(path: Path) -> Recording:
    """A file of the user's own. `NAME.info.json` beside it (as yt-dlp writes it) or `source.toml` in its folder may tell of it.

    Raises `RecordingError` for a file without sound, `DataError` for a broken file beside it.
    """
    return _as_told(replace(described(_info(path), path), subtitles=_subtitles(path)))


def local_captions(path: Path) -> Recording:
    """SRT or VTT without sound: what was said, and nothing of how. Raises `RecordingError`, `DataError` as `local` does."""
    segments, info = caption_segments(path), _info(path)
    code = licence_code(info.get("license"))
    return _as_told(
        Recording(
            path=path,
            url=shown(str(info.get("webpage_url") or "")),
            title=plain(info.get("title")) or path.stem,
            channel=plain(info.get("channel") or info.get("uploader")),
            licence=code,
            licence_class=licence_class(code),
            duration_seconds=segments[-1].end_seconds,
            subtitles=path,
            sha256=file_hash(path),
        )
    )


def _info(path: Path) -> Mapping[str, Any]:
    """What yt-dlp wrote beside the file."""
    beside = [path.with_suffix(".info.json"), path.with_name(path.name + ".info.json")]
    info: Any = next((read_json(side) for side in beside if side.is_file()), {})
    return info if isinstance(info, dict) else {}


def _as_told(recording: Recording) -> Recording:
    """With what `source.toml` in its folder says, where nothing nearer tells the licence."""
    own = own_set(recording.path.parent)
    if own is None or recording.licence != UNKNOWN:
        return recording
    return replace(
        recording,
        licence=own.licence,
        licence_class=own.licence_class,
        url=recording.url or own.url,
        channel=recording.channel or own.title,
    )


def _subtitles(path: Path) -> Path | None:
    """The SRT or VTT file of the same stem, or of that stem and a language."""
    near = [path.with_suffix(suffix) for suffix in SUBTITLES if path.suffix.casefold() != suffix]
    near += sorted(
        p
        for p in path.parent.iterdir()
        if p.suffix in SUBTITLES and p.name.startswith(path.stem + ".") and p.stem.count(".") == path.stem.count(".") + 1
    )
    return next((found for found in near if found.is_file()), None)
