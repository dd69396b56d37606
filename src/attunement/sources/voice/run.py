"""One run of `attune voice ingest`: each recording fetched, heard and made into dialogue before the next, then the folder's files.

What one recording gave is one file, keyed by what went into it: a second run passes over it, and what failed is tried again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from attunement.config import Settings
from attunement.embedding import Embedder
from attunement.errors import DataError, RecordingError
from attunement.quality.panel import Judges
from attunement.records import Transcript, from_dict, to_dict
from attunement.sources.knowledge.linking import Linker
from attunement.sources.knowledge.written import written_concepts
from attunement.sources.voice import output
from attunement.sources.voice.calibrating import FILE as CALIBRATION
from attunement.sources.voice.confidence import Confidence, load
from attunement.sources.voice.diarisation import open_diariser
from attunement.sources.voice.download import Downloader, Failure
from attunement.sources.voice.engines import open_transcriber
from attunement.sources.voice.listening import Ears, Tick, listen, shown_name, transcript_id
from attunement.sources.voice.making import Made, Makers, made_of, row_of
from attunement.sources.voice.naturalness import Fluency
from attunement.sources.voice.page import clock
from attunement.sources.voice.recordings import SUBTITLES, Recording, local_captions
from attunement.storage.files import exclusive, read_json, write_json

WORK = ".work"
NOT_MEDIA = {".json", ".jsonl", ".toml", ".txt", ".md", ".part", ".ytdl", ".html", ".csv", ".pdf"}
"""In a folder these lie beside recordings; named by themselves they are tried."""
Told = Callable[[str], None]


def ingest(
    sources: Sequence[str],
    out: Path,
    settings: Settings,
    *,
    i_have_permission: bool = False,
    tick: Tick = lambda *_: None,
    told: Told = lambda _: None,
    judges: Judges | None = None,
) -> dict[str, Any]:
    """Makes dialogue of `sources` (addresses, files, folders) in `out` and returns the report. `told` gets one line a recording.

    The folder may hold what earlier runs made: it grows. Raises `DataError` where another run writes to it.
    """
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(out / ".lock", f"another run writes to {out}: wait for it, or choose another --out"):
        run = _Run(out, settings, i_have_permission, tick, told, judges)
        for source in sources:
            for found in run.found(source):
                run.take(source, found)
        return output.write(*run.all(), out)


class _Run:
    """One run over a folder. What listens and what judges is made when it is first needed."""

    def __init__(self, out: Path, settings: Settings, permission: bool, tick: Tick, told: Told, judges: Judges | None) -> None:
        self.out, self.settings, self.tick, self.told = out, settings, tick, told
        self.downloads = Downloader(
            settings.voice,
            out / WORK / "downloads",
            i_have_permission=permission,
            tick=lambda title, done, total: tick(f"downloading {title}", done, total or done),
            heard=lambda recording: self._row(recording).get("heard_key") == self.ears.key(recording),
        )
        self.ears = ears_of(settings)
        self.makers = cache(lambda: makers_of(settings, judges))
        self.rows: dict[str, dict[str, Any]] = {row["source"]: row for row in _rows(out)}

    def found(self, source: str) -> Iterator[Recording | Failure]:
        """The recordings behind an address or a path."""
        if "://" in source:
            yield from self.downloads.fetch([source])
            return
        path = Path(source)
        for file in _files(path.absolute()) if path.is_dir() else [path.absolute()]:
            try:
                yield local_captions(file) if file.suffix.casefold() in SUBTITLES else self.downloads.local(file)
            except DataError as error:
                yield Failure(str(file), error.reason if isinstance(error, RecordingError) else "unreadable", str(error))

    def take(self, source: str, found: Recording | Failure) -> None:
        """One recording to its dialogue; what it gives none for is told, kept and does not stop the others."""
        if isinstance(found, Failure):
            self._fail(found.url or source, found.reason, found.told)
            return
        name, identity = found.url or str(found.path), transcript_id(found)  # two folders may hold files of one name
        twin = next((s for s, row in self.rows.items() if row.get("transcript") == identity and s != name), None)
        if twin is not None:
            self._fail(name, "duplicate", f"{name} holds the same sound as {twin}")
            return
        work = self.out / WORK / identity
        try:
            made = self._make(found, work)
        except RecordingError as error:
            self._fail(name, error.reason, str(error))
        else:
            self._keep(name, found, made)
        shutil.rmtree(work, ignore_errors=True)
        if not self.settings.voice.keep_audio and found.path.is_relative_to(self.downloads.folder):
            found.path.unlink(missing_ok=True)

    def _make(self, recording: Recording, work: Path) -> Made:
        path, row, key = self._path(recording), self._row(recording), self.ears.key(recording)
        if row.get("heard_key") != key:
            work = work / key[:16]
            row = {"heard_key": key, "heard": to_dict(listen(recording, self.ears, work, self.tick))}
            write_json(path, row)
        made_key = self.makers().key(row["heard"])
        if row.get("made_key") != made_key:
            self.tick("judging", 0, 1)
            made = self.makers().make(from_dict(Transcript, row["heard"]))
            self.tick("judging", 1, 1)
            write_json(path, {**row, "made_key": made_key, "transcript": to_dict(made.transcript), **row_of(made)})
            return made
        return made_of(row, from_dict(Transcript, row["transcript"]))

    def _path(self, recording: Recording) -> Path:
        return self.out / output.TRANSCRIPTS / f"{transcript_id(recording)}.json"

    def _row(self, recording: Recording) -> dict[str, Any]:
        """What was heard of it and made of it before."""
        path = self._path(recording)
        found: dict[str, Any] = read_json(path) if path.is_file() else {}
        return found

    def _keep(self, name: str, recording: Recording, made: Made) -> None:
        kept = sum(c.kept for c in made.checked)
        speakers = made.transcript.metadata["speakers"]
        self.rows[name] = {
            "source": name,
            "outcome": "kept",
            **recording.row(),
            "transcript": made.transcript.transcript_id,
            "engine": made.transcript.engine,
            "content_type": made.content_type,
            "speakers": speakers,
            "pairs": kept,
            "rejected_pairs": len(made.checked) - kept,
        }
        self._save_rows()
        roles = ", ".join(row["role"] for row in speakers.values())
        fault = f"; {recording.fault}" if recording.fault else ""
        self.told(
            f"{shown_name(recording)}: {clock(recording.duration_seconds)}, {made.content_type} ({roles}), {made.transcript.engine}, "
            f"{kept:,} pairs, {len(made.checked) - kept:,} rejected{fault}"
        )

    def _fail(self, name: str, reason: str, told: str) -> None:
        self.rows[name] = {"source": name, "outcome": "failed", "reason": reason, "told": told}
        self._save_rows()
        self.told(f"{reason}: {told}")

    def _save_rows(self) -> None:
        write_json(self.out / WORK / "recordings.json", [self.rows[name] for name in sorted(self.rows)])

    def all(self) -> tuple[list[Made], list[dict[str, Any]]]:
        """What this and earlier runs made, and every recording, in the order of their names."""
        rows = [self.rows[name] for name in sorted(self.rows)]
        found = [
            read_json(self.out / output.TRANSCRIPTS / f"{row['transcript']}.json") for row in rows if row["outcome"] == "kept"
        ]
        return [made_of(row, from_dict(Transcript, row["transcript"])) for row in found], rows


def _rows(out: Path) -> list[dict[str, Any]]:
    """Of earlier runs, a killed one among them."""
    path = out / WORK / "recordings.json"
    return list(read_json(path)) if path.is_file() else []


def _files(folder: Path) -> list[Path]:
    """The recordings below a folder, and the subtitles that belong to none."""
    files = [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.suffix.casefold() not in NOT_MEDIA
        and not any(n.startswith(".") for n in p.relative_to(folder).parts)
    ]
    sound = {p.with_suffix("") for p in files if p.suffix.casefold() not in SUBTITLES}
    return [
        p
        for p in files
        if p.suffix.casefold() not in SUBTITLES or not {p.with_suffix(""), p.with_suffix("").with_suffix("")} & sound
    ]


def _confidence(settings: Settings) -> Confidence:
    """Calibrated on the user's own recordings where `attune voice calibrate` was run, else as shipped."""
    own = settings.home.expanduser() / CALIBRATION
    return Confidence(settings.voice.engine, load(own).get(settings.voice.engine) if own.is_file() else None)


def ears_of(settings: Settings) -> Ears:
    """What listens by these settings."""
    voice = settings.voice
    return Ears(voice, cache(lambda: open_transcriber(voice)), cache(lambda: open_diariser(voice)), _confidence(settings))


def makers_of(settings: Settings, judges: Judges | None = None) -> Makers:
    """What makes and judges pairs by these settings."""
    judges = judges or Judges(Embedder(settings.embedding), settings.home.expanduser())
    return Makers(judges, settings.voice, Linker(written_concepts(), judges.embedder), Fluency())
