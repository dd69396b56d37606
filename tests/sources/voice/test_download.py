"""Recordings from addresses: what is fetched, what is refused, and what is never asked twice. All on 127.0.0.1."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sounds import Site, encode, serving, tone

from attunement.config import VoiceSettings
from attunement.errors import RecordingError
from attunement.sources.voice.download import Downloader, Failure, Recording

CC_BY = "https://creativecommons.org/licenses/by/4.0/"
SETTINGS = VoiceSettings(pause_seconds=0, rate_limit_kib=0)
VTT = b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello.\n"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One second each of wav, mp3 and m4a, and 20 seconds of wav."""
    folder = tmp_path_factory.mktemp("sounds")
    made = {kind: encode(folder / f"s.{kind}", tone(1.0, 300 + 100 * i)) for i, kind in enumerate(("wav", "mp3", "m4a"))}
    made["long"] = encode(folder / "long.wav", tone(20.0))
    return {kind: path.read_bytes() for kind, path in made.items()}


@pytest.fixture
def site(sounds: dict[str, bytes]) -> Iterator[Site]:
    with serving() as site:
        for kind, mime in (("wav", "audio/x-wav"), ("mp3", "audio/mpeg"), ("m4a", "audio/mp4")):
            site.files[f"/talk.{kind}"] = (mime, sounds[kind])
        site.files["/long.wav"] = ("audio/x-wav", sounds["long"])
        site.files["/talk.en.vtt"] = ("text/vtt", VTT)
        yield site


def page(site: Site, path: str, body: str) -> str:
    site.files[path] = (
        "text/html; charset=utf-8",
        f"<!doctype html><html><head><title>A talk</title></head><body>{body}".encode(),
    )
    return site.url + path


def one(found: Iterator[Recording | Failure]) -> Recording | Failure:
    (only,) = found
    return only


def test_a_page_gives_its_recordings_with_licence_and_subtitles(site: Site, tmp_path: Path) -> None:
    address = page(
        site,
        "/page",
        f'<a rel="license" href="{CC_BY}">CC</a><audio src="/talk.wav"></audio><audio src="/talk.mp3"></audio>'
        '<video><source src="/talk.m4a" type="video/mp4"><track kind="subtitles" srclang="en" src="/talk.en.vtt"></video>',
    )
    found = list(Downloader(SETTINGS, tmp_path).fetch([address]))
    assert [type(r) for r in found] == [Recording] * 3, found
    assert {r.licence for r in found} == {"CC-BY-4.0"} and {r.licence_class for r in found} == {"R"}
    assert all(abs(r.duration_seconds - 1) < 0.1 and r.path.is_file() and r.url == address for r in found)
    assert [r.subtitles.read_bytes() for r in found if r.subtitles] == [VTT]
    assert {r.path.parent for r in found} == {tmp_path}


def test_nothing_is_fetched_twice(site: Site, tmp_path: Path) -> None:
    site.headers["/talk.mp3"] = {"Link": f'<{CC_BY}>; rel="license"'}
    first = one(Downloader(SETTINGS, tmp_path).fetch([site.url + "/talk.mp3"]))
    assert isinstance(first, Recording) and first.licence == "CC-BY-4.0", first
    before = len(site.asked)
    assert one(Downloader(SETTINGS, tmp_path).fetch([site.url + "/talk.mp3"])) == first
    assert len(site.asked) == before
    first.path.write_bytes(b"")  # what is not whole any more is fetched again
    assert one(Downloader(SETTINGS, tmp_path).fetch([site.url + "/talk.mp3"])) == first


def test_the_licence_stands_before_the_sound(site: Site, tmp_path: Path) -> None:
    other = page(
        site, "/nc", '<link rel="license" href="http://creativecommons.org/licenses/by-nc/4.0/"><audio src="/talk.wav"></audio>'
    )
    plain = page(site, "/plain", '<audio src="/talk.wav"></audio>')
    for address, says in ((other, "CC-BY-NC-4.0"), (plain, "no licence"), (site.url + "/talk.wav?direct", "no licence")):
        refused = one(Downloader(SETTINGS, tmp_path).fetch([address]))
        assert isinstance(refused, Failure) and refused.reason == "licence", refused
        assert says in refused.told and "--i-have-permission" in refused.told
    # asking what a direct address holds opens it once; the sound behind a page is not asked for at all
    assert len(site.ranges("/talk.wav")) == 1 and not list(tmp_path.glob("*.wav"))
    allowed = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([plain]))
    assert isinstance(allowed, Recording) and (allowed.licence, allowed.licence_class) == ("unknown", "unknown")
    again = one(Downloader(SETTINGS, tmp_path).fetch([plain]))
    assert isinstance(again, Failure) and again.reason == "licence"  # permission is not inherited from the folder


def test_a_download_that_breaks_off_goes_on_from_there(site: Site, tmp_path: Path, sounds: dict[str, bytes]) -> None:
    address = page(site, "/long", '<audio src="/long.wav"></audio>')
    site.cut["/long.wav"] = [200_000]
    found = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([address]))
    assert isinstance(found, Recording) and found.path.read_bytes() == sounds["long"]
    assert site.ranges("/long.wav") == ["", "bytes=200000-"]


def test_tries_have_an_end_and_a_later_run_goes_on(
    site: Site, tmp_path: Path, sounds: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attunement.sources.voice.media_site.RETRIES", 1)
    address = page(site, "/long", '<audio src="/long.wav"></audio>')
    site.cut["/long.wav"] = [200_000, 100_000]
    failed = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([address]))
    assert isinstance(failed, Failure) and failed.reason == "unreachable", failed
    assert site.ranges("/long.wav") == ["", "bytes=200000-"]
    found = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([address]))
    assert isinstance(found, Recording) and found.path.read_bytes() == sounds["long"]
    assert site.ranges("/long.wav")[2:] == ["bytes=300000-"]


def test_a_killed_download_goes_on_in_the_next_run(site: Site, tmp_path: Path, sounds: dict[str, bytes]) -> None:
    address = page(site, "/long", '<audio src="/long.wav"></audio>')
    site.slow["/long.wav"] = 0.05
    code = (
        "import sys; from pathlib import Path; from attunement.config import VoiceSettings\n"
        "from attunement.sources.voice.download import Downloader\n"
        "s = VoiceSettings(pause_seconds=0, rate_limit_kib=0)\n"
        "print(list(Downloader(s, Path(sys.argv[2]), i_have_permission=True).fetch([sys.argv[1]])))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, address, str(tmp_path)], env=os.environ, stdout=subprocess.PIPE)
    give_up = time.monotonic() + 60
    while not any(part.stat().st_size > 50_000 for part in tmp_path.glob("*.part")):
        assert time.monotonic() < give_up and child.poll() is None, child.stdout and child.stdout.read()
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
    held = next(tmp_path.glob("*.part")).stat().st_size
    site.slow.clear()
    found = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([address]))
    assert isinstance(found, Recording) and found.path.read_bytes() == sounds["long"]
    assert site.ranges("/long.wav") == ["", f"bytes={held}-"] and not list(tmp_path.glob("*.part"))


def test_one_failure_never_stops_the_others(site: Site, tmp_path: Path, sounds: dict[str, bytes]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/talk.mp3"
    site.redirects |= {"/file": f"file://{tmp_path}/private.wav", "/circle": "/circle"}
    ftp = socket.create_server(("127.0.0.1", 0))
    ftp.setblocking(False)
    site.redirects["/ftp"] = f"ftp://127.0.0.1:{ftp.getsockname()[1]}/talk.mp3"
    site.statuses |= {"/closed": 403, "/busy": 503}
    site.files["/garbage.mp3"] = ("audio/mpeg", bytes(range(256)) * 400)
    page(site, "/text", "<p>nothing to hear</p>")
    page(site, "/outside", f'<audio src="file://{tmp_path}/private.wav"></audio>')
    encode(tmp_path / "private.wav", tone(0.5))
    expected = {
        "/gone.mp3": "not_found",
        "/closed": "forbidden",
        "/busy": "unreachable",
        "/text": "no_media",
        "/file": "address",
        "/ftp": "address",
        "/circle": "address",
        "/garbage.mp3": "not_audio",
    }
    downloader = Downloader(SETTINGS, tmp_path / "out", i_have_permission=True)
    asked = [*(site.url + path for path in expected), nobody, "file:///etc/passwd", site.url + "/outside", site.url + "/talk.mp3"]
    found = list(downloader.fetch(asked))
    reasons = [one.reason if isinstance(one, Failure) else "" for one in found]
    assert reasons[:-2] == [*expected.values(), "unreachable", "address"], found
    assert reasons[-1] == "" and reasons[-2], found
    with ftp, pytest.raises(BlockingIOError):
        ftp.accept()  # nobody came
    assert all("\n" not in one.told and one.told for one in found if isinstance(one, Failure))
    assert not list((tmp_path / "out").glob("*garbage*")) and len(list((tmp_path / "out").glob("*.mp3"))) == 1


def test_a_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attunement.sources.voice.media_site.TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr("attunement.sources.voice.media_site.RETRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        failed = one(Downloader(SETTINGS, tmp_path).fetch([f"http://127.0.0.1:{silent.getsockname()[1]}/talk.mp3"]))
    assert isinstance(failed, Failure) and failed.reason == "unreachable" and "timed out" in failed.told


def test_a_password_is_used_and_never_written(site: Site, tmp_path: Path) -> None:
    address = site.url.replace("//", "//somebody:geheim@") + "/talk.mp3?token=verborgen"
    found = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([address]))
    assert isinstance(found, Recording), found
    assert all(auth.startswith("Basic ") for _, _, auth in site.asked)
    refused = one(Downloader(SETTINGS, tmp_path / "b").fetch([address]))
    gone = one(Downloader(SETTINGS, tmp_path, i_have_permission=True).fetch([address.replace("talk", "gone")]))
    written = "".join(p.read_text() for p in tmp_path.glob("*.json"))
    for text in (written, repr(found), repr(refused), repr(gone)):
        assert "geheim" not in text and "verborgen" not in text and "127.0.0.1" in text


def test_a_title_names_no_file(site: Site, tmp_path: Path) -> None:
    address = page(site, "/evil", '<audio src="/talk.mp3"></audio>')
    site.files["/evil"] = (site.files["/evil"][0], site.files["/evil"][1].replace(b"A talk", b"../../../%(id)s/evil"))
    found = one(Downloader(SETTINGS, tmp_path / "50%(title)s", i_have_permission=True).fetch([address]))
    assert isinstance(found, Recording) and found.path.parent == tmp_path / "50%(title)s" and "evil" not in found.path.name
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [found.path.stem + ".json", found.path.name]


def test_what_the_user_has_set_up_for_yt_dlp_is_not_read(site: Site, tmp_path: Path) -> None:
    home, mark = tmp_path / "home", tmp_path / "ran"
    plugin = home / ".config/yt-dlp/plugins/mine/yt_dlp_plugins/extractor"
    plugin.mkdir(parents=True)
    (plugin / "mine.py").write_text(f"open({str(mark)!r}, 'w')")
    (home / ".config/yt-dlp/config").write_text(f"--exec 'touch {mark}'\n--netrc\n--write-thumbnail\n")
    (home / ".netrc").write_text("machine 127.0.0.1 login me password geheim\n")
    code = (
        "import sys; from pathlib import Path; from attunement.config import VoiceSettings\n"
        "from attunement.sources.voice.download import Downloader\n"
        "s = VoiceSettings(pause_seconds=0, rate_limit_kib=0)\n"
        "print(*Downloader(s, Path(sys.argv[2]), i_have_permission=True).fetch([sys.argv[1]]))"
    )
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / "cache"),
    }
    command = [sys.executable, "-c", code, site.url + "/talk.mp3", str(tmp_path / "out")]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.startswith("Recording(") and not mark.exists() and not (home / "cache").exists()
    assert all(not auth for _, _, auth in site.asked)


def test_an_own_file_tells_of_itself(tmp_path: Path) -> None:
    alone = encode(tmp_path / "alone.wav", tone(1.0))
    described = encode(tmp_path / "talk.mp3", tone(1.0))
    (tmp_path / "talk.en.vtt").write_bytes(VTT)
    info = {"title": "A \x1b[31mlecture\n", "channel": "Uni", "license": "Creative Commons Attribution license (reuse allowed)"}
    info |= {"extractor_key": "Youtube", "webpage_url": "https://www.youtube.com/watch?v=x", "upload_date": "20260101"}
    info |= {"chapters": [{"title": "One", "start_time": 0, "end_time": 1}], "duration": 1}
    (tmp_path / "talk.info.json").write_text(json.dumps(info))
    downloader = Downloader(SETTINGS, tmp_path / "out")
    first, second, third = downloader.fetch([str(alone), str(described), str(tmp_path / "gone.wav")])
    assert isinstance(first, Recording) and isinstance(second, Recording)
    assert (first.licence, first.licence_class, first.source_type, first.subtitles) == ("unknown", "unknown", "", None)
    assert (second.licence, second.title, second.channel, second.source_type) == ("CC-BY-3.0", "A [31mlecture", "Uni", "youtube")
    assert second.subtitles == tmp_path / "talk.en.vtt" and second.chapters[0].title == "One"
    assert isinstance(third, Failure) and third.reason == "not_found"
    (tmp_path / "source.toml").write_text('name = "own"\ntitle = "Our clinic"\nlicence = "CC-BY-SA-4.0"\nlicence_class = "SA"\n')
    ours = downloader.local(alone)
    assert (ours.licence, ours.licence_class, ours.channel) == ("CC-BY-SA-4.0", "SA", "Our clinic")
    (tmp_path / "alone.info.json").write_text("{")
    assert [one.reason for one in downloader.fetch([str(alone)]) if isinstance(one, Failure)] == ["description"]
    with pytest.raises(RecordingError, match="silent"):
        downloader.local(encode(tmp_path / "quiet.wav", np.zeros(16000, np.float32)))


def test_downloads_from_one_host_pause_between_them(site: Site, tmp_path: Path) -> None:
    settings = VoiceSettings(pause_seconds=0.4, rate_limit_kib=0)
    list(Downloader(settings, tmp_path, i_have_permission=True).fetch([site.url + "/talk.mp3"]))  # loads yt-dlp
    began = time.monotonic()
    address = page(site, "/two", '<audio src="/talk.wav"></audio><audio src="/talk.m4a"></audio>')
    found = list(Downloader(settings, tmp_path, i_have_permission=True).fetch([address]))
    assert len(found) == 2 and time.monotonic() - began >= 0.4


def test_a_public_page_leads_to_no_private_address(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloader = Downloader(SETTINGS, tmp_path, i_have_permission=True)
    client = downloader._site()
    client.began_at = "https://example.org/page"
    with pytest.raises(RecordingError, match="private address") as error:
        client.urlopen(site.url + "/talk.mp3")
    assert error.value.reason == "address" and not site.asked
