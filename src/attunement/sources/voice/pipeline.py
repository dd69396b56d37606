"""`PixelVoicePipeline`, the contract's steps one by one; `run.ingest` does all of them over a folder that grows and resumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from attunement.config import Settings, load_settings
from attunement.errors import DataError, RecordingError
from attunement.quality.panel import Judges
from attunement.records import DialoguePair, PersonalityProfile, QualityReport, Transcript
from attunement.sources.voice.checking import Checked, check, report_of
from attunement.sources.voice.dialogue import Profiles, construct
from attunement.sources.voice.download import Downloader
from attunement.sources.voice.listening import listen
from attunement.sources.voice.making import Makers, main_speaker, with_roles
from attunement.sources.voice.personality import profile_of, profiles_of
from attunement.sources.voice.recordings import SUBTITLES, Failure, Recording, local_captions
from attunement.sources.voice.run import WORK, ears_of, makers_of

MAIN = "main"
"""The one who answers, under one name over several transcripts."""


class PixelVoicePipeline:
    """From addresses of videos to dialogue pairs whose quality is known.

    `folder` holds downloads and what is heard so far (default: `voice` in the home). What fails is in `failures`; the rest goes on.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        folder: Path | None = None,
        *,
        judges: Judges | None = None,
        i_have_permission: bool = False,
    ) -> None:
        self.settings = settings or load_settings().settings
        self.folder = folder or self.settings.home.expanduser() / "voice"
        self.failures: list[Failure] = []
        self.left_out: Counter[str] = Counter()
        self._judges, self._recordings = judges, dict[Path, Recording]()
        self._downloads = Downloader(self.settings.voice, self.folder / "downloads", i_have_permission=i_have_permission)
        self._ears = ears_of(self.settings)
        self._profiles: Profiles = {}

    @cached_property
    def _makers(self) -> Makers:
        return makers_of(self.settings, self._judges)

    def download_youtube_audio(self, video_urls: Sequence[str]) -> list[Path]:
        """The sound of the videos, as far as their licences allow it; those that an earlier run fetched are not fetched again."""
        found: list[Path] = []
        for one in self._downloads.fetch(video_urls):
            if isinstance(one, Failure):
                self.failures.append(one)
            else:
                self._recordings[one.path] = one
                found.append(one.path)
        return found

    def batch_transcribe(self, audio_files: Sequence[Path]) -> list[Transcript]:
        """A transcript of each file (sound, video, SRT, VTT) in which something was understood, with speakers and their roles."""
        found: list[Transcript] = []
        for path in audio_files:
            try:
                recording = self._recordings.get(path) or self._local(path)
                heard = listen(recording, self._ears, self.folder / WORK / self._ears.key(recording)[:16])
            except DataError as error:
                reason = error.reason if isinstance(error, RecordingError) else "unreadable"
                self.failures.append(Failure(str(path), reason, str(error)))
            else:
                found.append(with_roles(heard, self._makers.judges))
        return found

    def _local(self, path: Path) -> Recording:
        return local_captions(path) if path.suffix.casefold() in SUBTITLES else self._downloads.local(path)

    def extract_personality_markers(self, transcripts: Sequence[Transcript]) -> PersonalityProfile:
        """How the one who answers speaks (therapist, guest, lecturer), over all `transcripts`: in a series the same person.

        `profiles` gives every speaker's of each. Raises `DataError` without a transcript.
        """
        if not transcripts:
            raise DataError("there is no transcript to take markers from: transcribe a recording first")
        segments = []
        for transcript in transcripts:
            main = main_speaker(transcript)
            segments += [replace(s, speaker=MAIN if s.speaker == main else s.speaker) for s in transcript.segments]
        profile = profile_of(segments, self._makers.judges, MAIN)
        return replace(profile, speaker=main_speaker(transcripts[0]))

    def profiles(self, transcripts: Iterable[Transcript]) -> Profiles:
        """By transcript and speaker."""
        return {t.transcript_id: profiles_of(t.segments, self._makers.judges) for t in transcripts}

    def construct_dialogue_pairs(self, transcripts: Sequence[Transcript], personality: PersonalityProfile) -> list[DialoguePair]:
        """The pairs of `transcripts`; what each of their main speakers says is compared with `personality`."""
        self._profiles = {t.transcript_id: {main_speaker(t): personality} for t in transcripts}
        makers = self._makers
        return construct(transcripts, self._profiles, judges=makers.judges, linker=makers.linker, left_out=self.left_out)

    def check(self, dialogue_pairs: Sequence[DialoguePair]) -> list[Checked]:
        """Each pair with its scores and the reasons against it."""
        makers = self._makers
        return check(dialogue_pairs, self._profiles, judges=makers.judges, settings=self.settings.voice, fluency=makers.fluency)

    def validate_quality(self, dialogue_pairs: Sequence[DialoguePair]) -> QualityReport:
        """Transcription, naturalness, consistency, emotional coherence and safety over all pairs; `check` gives them one by one."""
        return report_of(self.check(dialogue_pairs))
