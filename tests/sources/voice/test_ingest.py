"""The whole chain: from an address to training examples, killed and gone on with, and what cannot be used told in one line each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sounds import Site, encode, serving, tone

from attunement.config import Settings, load_settings
from attunement.curation.pipeline import DataPipeline
from attunement.records import VoiceDataExample, from_dict
from attunement.sources.voice.audio import blocks
from attunement.sources.voice.pipeline import PixelVoicePipeline
from attunement.sources.voice.run import ingest
from attunement.storage.files import read_json, read_jsonl

SPEECH = Path(__file__).parent / "speech"
"""Two short talks in flite's voices, words of our own, made by `benchmarks/voice_parts/speaking.py`."""
HEARD = "voice.least_confidence=0.3"
"""The offline engine understands flite's voices well enough; the shipped threshold is for learning."""
CAPTIONS = """WEBVTT

00:00:01.000 --> 00:00:04.000
<v Host>Why do people lie awake at three in the morning?

00:00:04.500 --> 00:00:16.000
<v Guest>Most people wake up several times a night. The trouble begins when they look at the clock and start to count.

00:00:16.500 --> 00:00:20.000
<v Host>What do you tell somebody who does that every night?

00:00:20.500 --> 00:00:34.000
<v Guest>I ask them to turn the clock to the wall, and to get up when they have been awake for twenty minutes.
"""


@pytest.fixture
def quick() -> Settings:
    loaded = load_settings(None, [HEARD, "voice.pause_seconds=0", "voice.rate_limit_kib=0"])
    return loaded.settings


def samples(name: str, seconds: float) -> np.ndarray:
    return np.concatenate(list(blocks(SPEECH / f"{name}.ogg")))[: int(seconds * 16000)]


def licensed(site: Site, page: str, media: dict[str, bytes], licence: str) -> str:
    """A page that embeds media, under a licence."""
    kinds = {"mp3": "audio/mpeg", "m4a": "audio/mp4", "wav": "audio/wav"}
    for name, content in media.items():
        site.files[f"/{name}"] = (kinds[name.split(".")[-1]], content)
    players = "".join(f'<audio controls src="/{name}"></audio>' for name in media)
    link = f'<link rel="license" href="{licence}">' if licence else ""
    site.files[page] = ("text/html", f"<html><head><title>Talks</title>{link}</head><body>{players}</body></html>".encode())
    return site.url + page


def test_from_an_address_to_training_examples(tmp_path: Path, quick: Settings) -> None:
    session = encode(tmp_path / "session.m4a", samples("session", 47.5)).read_bytes()
    out, lines = tmp_path / "out", list[str]()
    with serving() as site:
        address = licensed(site, "/talk.html", {"session.m4a": session}, "https://creativecommons.org/licenses/by/4.0/")
        report = ingest([address], out, quick, told=lines.append)
        fetched = len(site.ranges("/session.m4a"))
        again = ingest([address], out, quick)
        assert len(site.ranges("/session.m4a")) == fetched, "what was heard is not fetched again, though its sound was deleted"
    assert report == again
    assert (report["recordings"]["kept"], report["content_types"]) == (1, {"therapy": 1}), lines
    assert not list((out / ".work").rglob("*.m4a")), "a voice identifies a person: the download is deleted"
    examples = [from_dict(VoiceDataExample, row) for row in read_jsonl(out / "examples.jsonl")]
    assert examples
    assert len(examples) == report["pairs"]["kept"]
    for example in examples:
        metadata = example.dialogue_pair.metadata
        assert (metadata["prompt_role"], metadata["response_role"], metadata["licence"]) == ("client", "therapist", "CC-BY-4.0")
        assert 0.3 <= example.transcription_quality <= 1
        assert example.naturalness_score >= quick.voice.least_naturalness
        assert (example.source_type, example.source_url.startswith("http://127.0.0.1")) == ("clinical_demo", True)
    said = " ".join(example.dialogue_pair.response for example in examples).casefold()
    assert "day" in said
    built = load_settings(None, ["data.release_unreviewed=true", "data.min_coherence=0"]).settings
    dataset = DataPipeline(built, tmp_path / "dataset").process_datasets([out])
    assert dataset.source_distribution["voice"] >= 1
    assert {pair.metadata["licence"] for pair in dataset.qa_pairs} == {"CC-BY-4.0"}
    assert {example.dialogue_pair.response for example in dataset.voice_data} <= {pair.answer for pair in dataset.qa_pairs}
    assert dataset.voice_data[0] in examples


def test_a_killed_run_goes_on_behind_what_it_heard(tmp_path: Path, quick: Settings) -> None:
    source = tmp_path / "lecture.wav"
    encode(source, samples("lecture", 24), kind="wav")
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "attunement", "voice", "ingest", str(source), "--out", str(out), "--set", HEARD]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while not (heard := list(out.rglob("heard.jsonl"))) or not heard[0].stat().st_size:
        assert child.poll() is None, child.stderr.read().decode() if child.stderr else ""
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    before = heard[0].read_bytes()
    assert not list((out / "transcripts").glob("*.json")), "killed in the middle"
    with open(heard[0], "ab") as file:
        file.write(b'{"snr_db":1')  # and while a line was written
    ingest([str(source)], out, quick)
    whole = tmp_path / "whole"
    ingest([str(source)], whole, quick)
    one, other = ([read_json(p) for p in sorted((f / "transcripts").glob("*.json"))] for f in (out, whole))
    assert one == other
    assert before.count(b"\n") >= 1


def test_what_cannot_be_used_is_one_line_each_and_the_rest_goes_on(tmp_path: Path, quick: Settings) -> None:
    folder, lines = tmp_path / "in", list[str]()
    folder.mkdir()
    (folder / "talk.vtt").write_text(CAPTIONS, encoding="utf-8")
    (folder / "cut.mp3").write_bytes(b"")
    encode(folder / "silent.wav", np.zeros(16000 * 3, np.float32))
    chord = np.sum([tone(8, hertz, 0.1) for hertz in (220, 277, 330)], axis=0)
    encode(folder / "music.m4a", chord)
    (folder / "page.mp3").write_text("<html><body>Not found</body></html>", encoding="utf-8")
    encode(folder / "really_mp3.wav", samples("session", 11), kind="mp3")
    with serving() as site:
        wav = encode(tmp_path / "a.wav", tone(2)).read_bytes()
        forbidden = licensed(site, "/all-rights.html", {"a.wav": wav}, "")
        report = ingest([str(folder), forbidden, site.url + "/gone.mp3"], tmp_path / "out", quick, told=lines.append)
    reasons = {Path(row["source"]).name: row.get("reason", "kept") for row in read_jsonl(tmp_path / "out" / "recordings.jsonl")}
    assert reasons == {
        "talk.vtt": "kept", "really_mp3.wav": "kept", "cut.mp3": "broken", "silent.wav": "silent", "music.m4a": "no_speech",
        "page.mp3": "not_audio", "all-rights.html": "licence", "gone.mp3": "not_found",
    }  # fmt: skip
    assert len(lines) == len(reasons)
    assert all("\n" not in line and len(line) < 400 for line in lines)
    assert report["recordings"]["failed"] == 6
    assert any("--i-have-permission" in line for line in lines)


def test_the_same_sound_is_taken_once(tmp_path: Path, quick: Settings) -> None:
    for name in ("a.vtt", "b.vtt"):
        (tmp_path / name).write_text(CAPTIONS, encoding="utf-8")
    report = ingest([str(tmp_path / "a.vtt"), str(tmp_path / "b.vtt")], tmp_path / "out", quick)
    assert report["recordings"]["failed_by_reason"] == {"duplicate": 1}
    assert report["recordings"]["kept"] == 1


def test_files_of_one_name_in_two_folders_are_two_recordings(tmp_path: Path, quick: Settings) -> None:
    for folder, said in (("a", CAPTIONS), ("b", CAPTIONS.replace("three", "four"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "talk.vtt").write_text(said, encoding="utf-8")
    report = ingest([str(tmp_path / "a"), str(tmp_path / "b")], tmp_path / "out", quick)
    assert report["recordings"]["kept"] == 2
    assert report["pairs"]["kept"] == 4
    (tmp_path / "a" / "new.vtt").write_text("not yet", encoding="utf-8")
    assert ingest([str(tmp_path / "a")], tmp_path / "out", quick)["recordings"]["failed"] == 1
    (tmp_path / "a" / "new.vtt").write_text(CAPTIONS.replace("three", "five"), encoding="utf-8")
    again = ingest([str(tmp_path / "a")], tmp_path / "out", quick)["recordings"]
    assert (again["kept"], again["failed"]) == (3, 0)


def test_the_contracts_steps_one_by_one(tmp_path: Path, quick: Settings) -> None:
    path = tmp_path / "interview.vtt"
    path.write_text(CAPTIONS, encoding="utf-8")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    pipeline = PixelVoicePipeline(quick, tmp_path / "work")
    transcripts = pipeline.batch_transcribe([path, broken])
    assert [transcript.engine for transcript in transcripts] == ["captions"]
    assert [failure.reason for failure in pipeline.failures] == ["not_audio"]
    profile = pipeline.extract_personality_markers(transcripts)
    assert profile.speaker == "Guest"
    pairs = pipeline.construct_dialogue_pairs(transcripts, profile)
    assert [pair.speaker for pair in pairs] == ["Guest", "Guest"]
    assert pairs[0].prompt.endswith("three in the morning?")
    quality = pipeline.validate_quality(pairs)
    assert quality.passed
    assert quality.metrics.kept_pairs == 2
    assert pipeline.download_youtube_audio([]) == []
