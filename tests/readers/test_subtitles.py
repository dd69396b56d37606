"""Who speaks in subtitles: voice tags, labels, several speakers in a cue; a lecturer's own colons are no speakers."""

from __future__ import annotations

from attunement.readers.subtitles import subtitles


def srt(*cues: str) -> str:
    return "\n".join(f"{n}\n00:00:{n:02d},000 --> 00:00:{n + 1:02d},000\n{cue}\n" for n, cue in enumerate(cues, 1))


def test_a_lecturers_colons_are_no_speakers() -> None:
    (only,) = subtitles(srt("Anxiety is a wave.", "One more thing: breathe out slowly.", "Remember: it passes."), "srt")
    assert only == ("narrator", "Anxiety is a wave. One more thing: breathe out slowly. Remember: it passes.", 1.0)


def test_two_speakers_in_one_cue() -> None:
    spoken = subtitles(srt("Therapist: How was it?\nClient: Hard.", "I could not sleep.", "therapist: At all?"), "srt")
    assert spoken == [
        ("Therapist", "How was it?", 1.0),
        ("Client", "Hard. I could not sleep.", 1.0),
        ("therapist", "At all?", 3.0),
    ]


def test_names_that_come_twice_are_speakers() -> None:
    spoken = subtitles(srt("Anna: Hello.", "Dr Li: Hello, Anna.", "Anna: One thing: I am tired.", "Dr Li: I see."), "srt")
    assert [name for name, _, _ in spoken] == ["Anna", "Dr Li", "Anna", "Dr Li"]
    assert spoken[2][1] == "One thing: I am tired."


def test_marks_of_television_captions() -> None:
    assert [s[0] for s in subtitles(srt(">> THERAPIST: Go on.", "[Client] I can't."), "srt")] == ["THERAPIST", "Client"]


def test_voice_tags_of_one_cue() -> None:
    text = "WEBVTT\n\n00:01.000 --> 00:03.000\n<v Roger>Hello there.</v>\n<v.loud Mary Ann>Hi: it is me.</v>\n"
    assert subtitles(text, "vtt") == [("Roger", "Hello there.", 1.0), ("Mary Ann", "Hi: it is me.", 1.0)]
