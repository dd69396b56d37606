"""Subtitles as an engine: rolling captions once, names, sentences, what nobody says."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from attunement.errors import RecordingError
from attunement.sources.voice.captions import caption_segments

TALKS = Path(str(files("attunement") / "samples" / "conversations" / "talks"))
ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.470 align:start position:0%
 
so<00:00:00.400><c> the</c><00:00:00.560><c> first</c><00:00:00.900><c> thing</c>

00:00:02.470 --> 00:00:02.480 align:start position:0%
so the first thing
 

00:00:02.480 --> 00:00:04.630 align:start position:0%
so the first thing
is<00:00:02.700><c> to</c><00:00:02.900><c> sit</c><00:00:03.100><c> down</c>

00:00:04.630 --> 00:00:04.640 align:start position:0%
is to sit down
 

00:00:04.640 --> 00:00:06.500 align:start position:0%
is to sit down
[Music]

00:00:06.500 --> 00:00:06.510 align:start position:0%
[Music]
 

00:00:09.000 --> 00:00:10.500 align:start position:0%
[Music]
and<00:00:09.200><c> breathe</c><00:00:09.600><c> out</c>
"""  # noqa: W293


def made(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_rolling_captions_are_taken_once(tmp_path: Path) -> None:
    segments = caption_segments(made(tmp_path, "talk.en.vtt", ROLLING))
    assert [s.text for s in segments] == ["so the first thing is to sit down", "and breathe out"]
    assert [(s.start_seconds, s.end_seconds) for s in segments] == [(0.16, 4.63), (9.0, 10.5)]


def test_who_says_no_twice_says_it_twice(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nNo.\n\n2\n00:00:02,000 --> 00:00:03,000\nNo.\n\n3\n00:00:03,000 --> 00:00:04,000\nI said no.\n"
    assert [s.text for s in caption_segments(made(tmp_path, "a.srt", text))] == ["No.", "No.", "I said no."]


def test_names_stay_and_sounds_go() -> None:
    podcast = caption_segments(TALKS / "men_and_friendship_podcast.vtt")
    assert {s.speaker for s in podcast} == {"Host", "Guest"}
    assert all("<v" not in s.text and s.start_seconds < s.end_seconds for s in podcast)
    speech = caption_segments(TALKS / "evening_college_speech.vtt")
    assert speech[0].text.startswith("Sit down") and speech[0].speaker == ""
    assert not any("applause" in s.text for s in speech)


def test_a_sentence_over_two_cues_is_one_segment_unless_another_speaks(tmp_path: Path) -> None:
    text = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>I went home\n\n00:02.000 --> 00:03.000\n<v Ann>and slept.\n\n"
        "00:03.000 --> 00:04.000\n<v Ann>And then\n\n00:04.000 --> 00:05.000\n<v Ben>Then what?\n"
    )
    said = [(s.speaker, s.text) for s in caption_segments(made(tmp_path, "a.vtt", text))]
    assert said == [("Ann", "I went home and slept."), ("Ann", "And then"), ("Ben", "Then what?")]


@pytest.mark.parametrize(("name", "text"), [("a.vtt", "WEBVTT\n"), ("a.srt", "no times here"), ("a.txt", "x"), ("a.vtt", "")])
def test_what_holds_no_subtitles_is_told_in_one_line(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(RecordingError) as told:
        caption_segments(made(tmp_path, name, text))
    assert told.value.reason == "captions" and "\n" not in str(told.value) and name in str(told.value)
