"""The report: what a clinician must see is there, nothing of a client's text becomes markup, and what is drawn is true and can be read."""

from __future__ import annotations

import base64
import hashlib
import importlib.abc
import importlib.util
import re
import sys
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import journeys
from journeys import BEGIN, PAGES, found_in, page, phq9, session

from attunement.errors import ConfigError, MissingExtraError, ServiceError
from attunement.progress import drawing
from attunement.progress.charts import Frame, score_chart
from attunement.progress.findings import DETERIORATED, REGRESSING, STABLE, ExpectedResponse, ReliableChange, Trend, TrendAnalysis
from attunement.progress.journey import Journey
from attunement.progress.measures import measures, read_measure
from attunement.progress.report import to_pdf
from attunement.progress.time_axis import Mark, TimeAxis, fitted, gaps
from attunement.records import CrisisAssessment, Timeframe

ROOT = Path(__file__).resolve().parents[2]
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;b&gt; ]]></svg><style>*{display:none}</style>"


class Reader(HTMLParser):
    """Elements with their attributes, in order, and the text of each; what `text` gives is what a person reads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, *tags: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.elements if tag in tags]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def svgs(html: str) -> list[ET.Element]:
    return [ET.fromstring(found) for found in re.findall(r'<svg [^>]*role="img".*?</svg>', html, re.DOTALL)]


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(colour: str, ground: str, opacity: float) -> str:
    return "#" + "".join(
        f"{round(int(colour[i : i + 2], 16) * opacity + int(ground[i : i + 2], 16) * (1 - opacity)):02x}" for i in (1, 3, 5)
    )


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_whole_and_accessible(name: str) -> None:
    html = PAGES[name]()
    read = Reader(html)
    levels = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), "a level of headings is skipped"
    assert read.all("html")[0]["lang"] == "en" and len(read.all("main")) == len(read.all("header")) == len(read.all("nav")) == 1
    assert all("scope" in cell for cell in read.all("th")) and all(tag != "script" for tag, _ in read.elements)
    ids = [attributes["id"] for _, attributes in read.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = {i for _, a in read.elements for i in a.get("aria-labelledby", "").split()}
    wanted |= {a["href"].removeprefix("#") for a in read.all("a")}
    assert wanted <= set(ids), "something is named or linked that is not there"
    for svg in svgs(html):
        title, description = svg[0].text or "", svg[1].text or ""
        assert re.search(r"\d", title) and description, "a chart says in its title what it shows, with figures"


def test_nothing_comes_from_outside_and_the_policy_says_so() -> None:
    html = journeys.relapse()
    assert not re.search(r"(?:https?:)?//[a-z]", html.replace("http://www.w3.org/2000/svg", ""))
    assert not re.search(r"<[^>]* (?:style|on[a-z]+)=", html)
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    policy = next(m["content"] for m in Reader(html).all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert style and "default-src 'none'" in policy
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()}'" in policy


def test_what_people_wrote_is_never_markup() -> None:
    plain, evil = Reader(journeys.relapse(label="x")), Reader(journeys.relapse(summary=EVIL, title=EVIL, label=EVIL))
    assert [tag for tag, _ in evil.elements] == [tag for tag, _ in plain.elements]
    assert evil.text.count(EVIL) >= 75
    named = page(
        Journey(EVIL, (), [replace(phq9(BEGIN, 4), measure=EVIL)]),
        TrendAnalysis(EVIL, 0, EVIL, (), (), [EVIL], [EVIL]),
        Timeframe(BEGIN, BEGIN + timedelta(days=9)),
    )
    assert {tag for tag, _ in Reader(named).elements} <= {tag for tag, _ in plain.elements}


def test_alerts_come_first_and_the_gravest_before_the_others() -> None:
    at = [BEGIN + timedelta(days=7 * n) for n in range(5)]
    danger = CrisisAssessment("imminent", ("x",), 0.9, "plan", "self")
    sessions = [session(n, day, crisis=danger if n == 1 else CrisisAssessment()) for n, day in enumerate(at)]
    scores = [phq9(day, 8 + 3 * n, int(n == 3)) for n, day in enumerate(at)]
    found = found_in(
        scores,
        REGRESSING,
        change=ReliableChange(DETERIORATED, 8, 20, 12, 5.2, 10, ""),
        expected=ExpectedResponse(False, 20, 7, (3, 11), "Why."),
    )
    html = page(
        Journey("c", sessions, scores), TrendAnalysis("c", 5, REGRESSING, [found]), Timeframe(BEGIN, BEGIN + timedelta(days=60))
    )
    text = Reader(html).text
    words = [
        "Signs of danger in 1 session",
        "item 9 (thoughts of death or self-harm): over zero once",
        "PHQ-9: reliably worse",
        "PHQ-9: not on track",
        "The trajectory is getting worse",
        "Getting worse",
        "no proof",
    ]
    assert text.index(words[0]) < text.index(words[1]) < text.index(words[2]) < text.index(words[3]) < text.index(words[4])
    assert text.index(words[4]) < text.index("Improvement is not proof") < text.index("Patient Health Questionnaire")
    assert "13 Feb 2023 (imminent: plan)" in text and "The latest answer, on 6 Mar 2023, is 0." in text


def test_no_alert_says_what_was_not_looked_at() -> None:
    scores = [
        replace(phq9(BEGIN, 9), items=()),
        replace(phq9(BEGIN + timedelta(days=7), 9), items=(1, 1, 1, 1, 1, 1, 1, 1, None)),
    ]
    frame = Timeframe(BEGIN, BEGIN + timedelta(days=30))
    text = Reader(
        page(Journey("c", [session(0, BEGIN)], scores), TrendAnalysis("c", 1, STABLE, [found_in(scores, STABLE)]), frame)
    ).text
    assert "None in this timeframe" in text and "In 2 scores of PHQ-9 the answer to item 9 is not known" in text
    assert "no proof of safety" in text


def test_too_little_data_is_said_plainly() -> None:
    empty, two = Reader(journeys.empty()).text, Reader(journeys.two_sessions()).text
    for words in (
        "nothing yet that an alert could come from",
        "Not enough data to say",
        "No questionnaire was filled in",
        "No goal is set",
        "No session is logged",
        "No emotional state is on record",
    ):
        assert words in empty
    assert "a trend needs 4 scores, there are 2" in two and "A chart needs three sessions" in two
    assert "PHQ-9 over time, 2 scores: 14 on 6 Feb 2023 to 13 on 13 Feb 2023" in two


def test_evidence_names_the_measure_and_is_whole() -> None:
    scores = [phq9(BEGIN, 14), phq9(BEGIN + timedelta(days=7), 13)]
    analysis = TrendAnalysis(
        "c", 0, STABLE, [found_in(scores, STABLE, evidence=["First.", "Second."])], (), ["phq9: stable. Why."]
    )
    text = Reader(page(Journey("c", (), scores), analysis, Timeframe(BEGIN, BEGIN + timedelta(days=30)))).text
    assert "PHQ-9: stable. Why." in text and "Stable. First." in text and "First. Second." in text


def test_valence_stands_under_the_emotions_where_it_is_known() -> None:
    plain = [session(n, BEGIN + timedelta(days=7 * n)) for n in range(4)]
    known = [
        replace(s, log=replace(s.log, emotional_state=replace(s.log.emotional_state, valence=-0.3 + n / 10)))
        for n, s in enumerate(plain)
    ]
    frame, analysis = Timeframe(BEGIN, BEGIN + timedelta(days=30)), TrendAnalysis("c", 4, STABLE, ())
    assert "Valence over time" not in page(Journey("c", plain), analysis, frame)
    html = page(Journey("c", known), analysis, frame)
    assert "Valence over time, 4 sessions: −0.30 on 6 Feb 2023 to 0.00 on 27 Feb 2023" in html and "unpleasant −1" in html


def test_ten_years_show_the_latest_and_fold_the_rest() -> None:
    html = journeys.ten_years()
    read = Reader(html)
    assert "490 earlier sessions" in read.text and "means of months are shown" in read.text
    folded = html[html.index('<details class="long"><summary>490') :]
    assert html.count('<p class="keep"><b><time') == 500 and folded.count('<p class="keep"><b><time') == 490
    assert read.text.index("29 Jan 2026 ·") < read.text.index("24 Nov 2025 ·"), "latest first"


def test_time_is_true_and_gaps_break_the_line() -> None:
    days = [0, 7, 14, 21, 28, 200, 207]
    scores = [phq9(BEGIN + timedelta(days=d), 10) for d in days]
    frame = Frame(TimeAxis(BEGIN, BEGIN + timedelta(days=210), 0, 1, ZoneInfo("UTC")), (), ())
    chart = score_chart(found_in(scores, STABLE), measures()["phq9"], frame, ("7 scores", "d"))
    svg = ET.fromstring(chart.svgs[0])
    tag = "{http://www.w3.org/2000/svg}"
    x = [float(dot.attrib["cx"]) for dot in svg.iter(f"{tag}circle")]
    assert x == sorted(x) and (x[5] - x[4]) / (x[1] - x[0]) == pytest.approx(172 / 7, rel=0.02)
    lines = [p for p in svg.iter(f"{tag}path") if p.attrib.get("stroke") == drawing.SCORE]
    assert [len(re.findall("[ML]", line.attrib["d"])) for line in lines] == [5, 2]
    assert gaps([s.at for s in scores]) == [(scores[4].at, scores[5].at)]


def test_the_drawing_says_what_was_found() -> None:
    scores = [phq9(BEGIN + timedelta(days=7 * n), 20 - n) for n in range(10)]
    found = found_in(
        scores, STABLE, trend=Trend(-1.0, (-1.2, -0.8), -1, 0.001, 10), change=ReliableChange("improved", 20, 11, -9, 5, 10, "")
    )
    frame = Frame(TimeAxis(BEGIN, BEGIN + timedelta(days=63), 0, 1, ZoneInfo("UTC")), (), ())
    svg = ET.fromstring(score_chart(found, measures()["phq9"], frame, ("t", "d")).svgs[0])
    tag = "{http://www.w3.org/2000/svg}"
    dots = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in svg.iter(f"{tag}circle")]
    trend = next(
        p for p in svg.iter(f"{tag}path") if p.attrib.get("stroke") == drawing.TREND and p.attrib["stroke-width"] == "2.2"
    )
    ends = [float(v) for v in re.findall(r"[\d.]+", trend.attrib["d"])]
    assert ends == pytest.approx([*dots[0], *dots[-1]], abs=0.2), "scores on a line have their trend on them"
    reliable = [float(line.attrib["y1"]) for line in svg.iter(f"{tag}line") if line.attrib["stroke"] == drawing.RELIABLE]
    assert reliable == pytest.approx([2 * dots[0][1] - dots[5][1], dots[5][1]], abs=0.2)


def test_the_worst_band_is_darkest_whichever_way_a_measure_counts() -> None:
    calm = read_measure(ROOT / "docs" / "examples" / "measures" / "calm4.toml")
    assert not calm.higher_is_worse
    for measure in (calm, measures()["phq9"]):
        score = replace(phq9(BEGIN, 8), measure=measure.code, items=())
        frame = Frame(TimeAxis(BEGIN, BEGIN + timedelta(days=9), 0, 1, ZoneInfo("UTC")), (), ())
        svg = ET.fromstring(score_chart(found_in([score], STABLE), measure, frame, ("t", "d")).svgs[0])
        grounds = [
            (float(r.attrib["y"]), luminance(r.attrib["fill"]))
            for r in svg.iter("{http://www.w3.org/2000/svg}rect")
            if r.attrib["fill"] in drawing.BANDS
        ]
        top_first = [light for _, light in sorted(grounds)]
        assert top_first == sorted(top_first, reverse=not measure.higher_is_worse) and len(set(top_first)) == len(measure.bands)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4000), min_size=1, max_size=80), st.sampled_from([drawing.WIDE, drawing.NARROW]))
def test_marks_never_cover_each_other_and_none_is_lost(hours: list[int], width: int) -> None:
    axis = TimeAxis(BEGIN, BEGIN + timedelta(hours=4000), 34, width - 100, ZoneInfo("UTC"))
    badges = axis.badges([Mark(BEGIN + timedelta(hours=h), str(n), "note", "") for n, h in enumerate(sorted(hours), 1)])
    assert sum(len(badge.lines) for badge in badges) == len(hours)
    shown = [int(n) for badge in badges for n in ([badge.text] if "–" not in badge.text else badge.text.split("–"))]
    assert shown[0] == 1 and shown[-1] == len(hours) and shown == sorted(shown)
    inner = badges[1:-1]  # those at the ends are pushed inside
    assert all(a.x + a.width / 2 <= b.x - b.width / 2 for a, b in pairwise(inner))


@pytest.mark.parametrize(
    ("days", "first", "last"), [(5, "26 Mar", "30 Mar"), (90, "3 Apr", "12 Jun"), (1461, "Jul", "Jan"), (5000, "2024", "2036")]
)
def test_ticks_are_the_calendars(days: int, first: str, last: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2023, 3, 25, 12, tzinfo=UTC)  # the clocks change on 26 March
    ticks = TimeAxis(start, start + timedelta(days=days), 34, 572, zone).ticks(52)
    assert (ticks[0][1], ticks[-1][1]) == (first, last)
    assert all(b[0] - a[0] > 40 for a, b in pairwise(ticks)), "labels have room"


def test_the_axis_shows_where_entries_are() -> None:
    start, entries = BEGIN, [BEGIN + timedelta(days=d) for d in (400, 430)]
    end = start + timedelta(days=3000)
    shown = fitted(start, end, entries)
    assert shown[2] and shown[0] < entries[0] and shown[1] > entries[-1] and shown[1] - shown[0] < timedelta(days=60)
    assert fitted(start, end, [start, end - timedelta(days=1)]) == (start, end, False)
    assert fitted(start, start, [])[1] > start


def test_colours_can_be_told_apart() -> None:
    grounds = ["#ffffff", *drawing.BANDS]
    darkest = mixed(drawing.RELIABLE_FILL, drawing.BANDS[-1], 0.08)
    for line in (drawing.SCORE, drawing.TREND, drawing.RELIABLE, drawing.DANGER, drawing.INK, drawing.RULE):
        assert all(contrast(line, ground) >= 3 for ground in (*grounds, darkest)), line
    assert contrast(drawing.QUIET, "#ffffff") >= 4.5 and contrast("#ffffff", drawing.DANGER) >= 4.5
    css = (ROOT / "src" / "attunement" / "progress" / "report.css").read_text(encoding="utf-8")
    for ink in re.findall(r"[ {;]color: (#[0-9a-f]{6})", css):
        assert all(contrast(ink, ground) >= 4.5 for ground in ("#ffffff", "#f8fafc", "#fdf6f7")), ink
    template = (ROOT / "src" / "attunement" / "progress" / "report.html.jinja").read_text(encoding="utf-8")
    for line in {drawing.SCORE, drawing.TREND, drawing.RELIABLE, drawing.DANGER, drawing.INK, drawing.QUIET}:
        assert line in template, "the key shows the colours of the charts"


# --- PDF ------------------------------------------------------------------------------------------------


def test_the_pdf_is_tagged_and_its_charts_have_words() -> None:
    try:
        pdf = to_pdf(journeys.two_sessions(), paper="Letter")
    except ServiceError as error:
        pytest.skip(str(error))
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    whole = pdf + b"\n".join(zlib.decompress(part) for part in streams if part.startswith((b"\x78\xda", b"\x78\x9c")))
    assert b"/StructTreeRoot" in whole and b"/Lang (en)" in whole and b"612 792" in whole and b"pdfuaid" in whole
    drawn = re.findall(rb"/Figure\s*<</MCID", whole)
    assert len(drawn) == 4 == whole.count(b"/Alt"), "one chart and the three samples of its key"
    assert b"PHQ-9 over time, 2 scores" in whole


def test_the_pdf_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="A4, Letter"):
        to_pdf("", paper="A5")
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(MissingExtraError, match=r"attunement\[report\]"):
        to_pdf("")
    monkeypatch.delitem(sys.modules, "weasyprint")
    monkeypatch.setattr(sys, "meta_path", [_WithoutPango(), *sys.meta_path])
    with pytest.raises(ServiceError, match="apt-get install libpango"):
        to_pdf("")


class _WithoutPango(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports WeasyPrint as a machine without Pango does."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == "weasyprint" else None

    def exec_module(self, module: ModuleType) -> None:
        raise OSError("cannot load library 'libpango-1.0-0'")
