"""yt-dlp as a library that asks only what is asked of it: no configuration, plug-ins, cookies, netrc, programs or cache of the user's.

Only http and https are opened, whatever a page, a format or a redirect names; what leads from a public host to a private one is
refused, by name and by the very address that is connected to: a name that resolves to another one later (DNS rebinding) leads nowhere.
Every error of yt-dlp's becomes one `RecordingError` here:

    address      not an http or https address, or one that leads to something else
    not_found    404, 410
    forbidden    401, 403, 451; a private or geo-blocked video, a login
    unreachable  no such host, a refused connection, a time-out, 429, 5xx
    extractor    yt-dlp stumbles over it
    no_media     a page or file without sound or video in it
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from attunement.config import VoiceSettings
from attunement.errors import MissingExtraError, RecordingError

TIMEOUT_SECONDS = 20.0
RETRIES = 5
MOST_WAIT_SECONDS = 60.0
FORMAT = "/".join(f"{kind}[protocol^={protocol}]" for kind in ("ba", "b") for protocol in ("http", "m3u8"))
"""The best sound without pictures, else the best of both; rtmp, mms and ftp would need programs."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")
_USER = re.compile(r"//[^/@\s]*@")
_SECRET = re.compile(r"(?i)([?&;](?:[\w-]*(?:token|secret|passw(?:or)?d|signature)|sig|auth|key|api_?key)=)[^&;#\s]+")
_NOISE = re.compile(r"^(?:ERROR: )?(?:\[[^\]]+\] )?|; please report this issue on.*$|\. (?:Use|See) --.*$|\(caused by .*$", re.S)
_FORBIDDEN = re.compile(r"(?i)private|sign in|log ?in|members?.only|not available in your|geo.?restrict|age.restrict|drm")
_NO_MEDIA = re.compile(
    r"(?i)unsupported url|no video formats|no media|requested format is not available|not a valid url|no suitable"
)


def shown(text: str) -> str:
    """`text` with the names, passwords and tokens of its addresses taken out: fit for records and messages."""
    return _SECRET.sub(r"\1...", _USER.sub("//", text))


def plain(text: object) -> str:
    """A stranger's words on one line of at most 300 characters, without control characters that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text or "")).split())[:300]


def checked(address: str) -> str:
    """`address` if it may be opened. Raises `RecordingError`."""
    try:
        parts = urlsplit(address.strip())
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise RecordingError("address", f"{shown(address)[:200]} is not an http or https address: only these are opened")
    return urlunsplit(parts)


def client(settings: VoiceSettings, folder: Path, progress: Callable[[dict[str, Any]], None]) -> Any:
    """A `yt_dlp.YoutubeDL` that writes to `folder` only; `progress` is told what its hooks are."""
    try:
        import yt_dlp
        from yt_dlp import globals as state
    except ImportError as error:
        raise MissingExtraError("downloading recordings", "voice") from error

    state.plugin_dirs.value = []  # code in ~/.config/yt-dlp and in other packages
    pause = settings.pause_seconds

    def wait(n: int) -> float:
        return float(min(MOST_WAIT_SECONDS, pause * 2**n))

    site = yt_dlp.YoutubeDL(
        {
            "quiet": True,
            "no_warnings": True,
            "noprogress": True,
            "logger": _Silence(),
            "format": FORMAT,
            "outtmpl": {"default": str(folder / "unnamed.%(ext)s").replace("%", "%%")},
            "noplaylist": True,  # an address of one video within a list means that video
            "extract_flat": "in_playlist",
            "continuedl": True,
            "updatetime": False,
            "ratelimit": settings.rate_limit_kib * 1024 or None,
            "sleep_interval_requests": min(1.0, pause),
            "retries": RETRIES,
            "fragment_retries": RETRIES,
            "extractor_retries": 2,
            "retry_sleep_functions": {"http": wait, "fragment": wait, "extractor": wait},
            "skip_unavailable_fragments": False,  # half a talk must not pass for a whole one
            "socket_timeout": TIMEOUT_SECONDS,
            "cachedir": False,
            "usenetrc": False,
            "cookiefile": None,
            "cookiesfrombrowser": None,
            "enable_file_urls": False,
            "postprocessors": [],
            "fixup": "never",
            "ffmpeg_location": str(folder / "no-ffmpeg"),
            "external_downloader": {"default": "native"},
            "progress_hooks": [progress],
        }
    )
    _guard(site)
    return site


class _Silence:
    """yt-dlp's messages go nowhere; what matters comes as an exception."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


def _guard(site: Any) -> None:
    """Every request of `site` passes here, those of its extractors and downloaders too, and every redirect before it is followed."""
    inner = site.urlopen

    def urlopen(request: Any) -> Any:
        asked = request if isinstance(request, str) else request.url
        _allow(site, "http:" + asked if asked.startswith("//") else asked)
        answer = inner(request)
        try:
            _allow(site, answer.url)
        except RecordingError:
            answer.close()
            raise
        return answer

    site.urlopen = urlopen
    handlers = site._request_director.handlers
    for name in [name for name in handlers if name != "Urllib"]:  # others follow redirects unseen, or pass for a browser
        del handlers[name]
    make = handlers["Urllib"]._create_instance

    def opener(*args: Any, **options: Any) -> Any:
        made = make(*args, **options)
        for handler in made.handlers:
            if hasattr(handler, "redirect_request"):
                handler.redirect_request = _checking(site, handler.redirect_request)
            if hasattr(handler, "do_open"):
                handler.do_open = _dialling(site, handler.do_open)
        return made

    handlers["Urllib"]._create_instance = opener


def _checking(site: Any, follow: Callable[..., Any]) -> Callable[..., Any]:
    def redirect_request(req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _allow(site, newurl)
        return follow(req, fp, code, msg, headers, newurl)

    return redirect_request


def _dialling(site: Any, do_open: Callable[..., Any]) -> Callable[..., Any]:
    """Connections are made by `_dial`, but those to the user's own proxy, who looks names up by itself."""

    def opened(make: Callable[..., Any], req: Any, **options: Any) -> Any:
        def connection(*args: Any, **more: Any) -> Any:
            made = make(*args, **more)
            if not (req.has_proxy() or req._tunnel_host):
                made._create_connection = lambda *where: _dial(site, *where)
            return made

        return do_open(connection, req, **options)

    return opened


def _dial(site: Any, where: tuple[str, int], timeout: float, source: Any = None) -> socket.socket:
    """Looks a name up once, and connects to what was looked at. Raises `RecordingError` for a private address, `OSError`."""
    host, port = where
    began = getattr(site, "began_at", "")
    found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    usable = [ip for ip in found if _is_public(ip)] if began and not _private(began) else found
    if not usable:
        raise RecordingError(
            "address",
            f"{shown(began)} leads to {host}, which is at the private address {found[0]}: give that address itself to mean it",
        )
    failed: OSError | None = None
    for ip in usable:
        try:
            return socket.create_connection((ip, port), timeout, source)
        except OSError as error:
            failed = error
    assert failed is not None
    raise failed


def _is_public(ip: str) -> bool:
    """Whether an address, or the one of IPv4 that it stands for, is one of the whole internet."""
    address = ipaddress.ip_address(ip.partition("%")[0])
    inner: Any = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    if address.version == 6 and address in NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return bool((inner or address).is_global)


def _allow(site: Any, address: str) -> None:
    checked(address)
    _no_way_in(site, address)


def _no_way_in(site: Any, address: str) -> None:
    """A public page must not make this machine ask its own network: addresses as they are written; `_dial` sees those of names."""
    began = getattr(site, "began_at", "")
    if began and _private(address) and not _private(began):
        raise RecordingError("address", f"{shown(began)} leads to the private address {shown(address)}: it is not opened")


def _private(address: str) -> bool:
    host = (urlsplit(address).hostname or "").rstrip(".")
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal"))


@contextmanager
def asking(address: str) -> Iterator[None]:
    """What fails inside becomes a `RecordingError` about `address`."""
    from yt_dlp.networking.exceptions import RequestError
    from yt_dlp.utils import YoutubeDLError

    try:
        yield
    except (YoutubeDLError, RequestError) as error:
        raise _mapped(error, address) from error
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
    ) as error:  # one of its 1800 readers of sites met what it does not know
        raise RecordingError("extractor", f"yt-dlp cannot read {shown(address)}: {_line(error)}; a newer yt-dlp may") from error


def _mapped(error: BaseException, address: str) -> RecordingError:
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import ContentTooShortError

    chain = list(_chain(error))
    where = shown(address)
    for cause in chain:
        if isinstance(cause, RecordingError):
            return cause
        if isinstance(cause, HTTPError):
            return _answered(int(cause.status), where)
    for cause in chain:
        if isinstance(cause, ContentTooShortError):
            return RecordingError(
                "unreachable", f"{where} broke off again and again: run the same command again to go on from there"
            )
        if isinstance(cause, TransportError):
            return RecordingError("unreachable", f"{where} cannot be reached: {_line(cause)}")
    line = _line(error)
    if _NO_MEDIA.search(line):
        return RecordingError("no_media", f"there is no sound or video that can be read at {where}")
    return RecordingError("forbidden" if _FORBIDDEN.search(line) else "unreachable", f"{where} gives no recording: {line}")


def _answered(status: int, where: str) -> RecordingError:
    if status in (404, 410):
        return RecordingError("not_found", f"there is nothing at {where} (it answers {status}): check the address")
    if status in (401, 403, 407, 451):
        return RecordingError("forbidden", f"{where} may not be read (it answers {status})")
    if 300 <= status < 400:
        return RecordingError(
            "address", f"{where} leads to something that is not an http or https address, or in a circle: it is not opened"
        )
    return RecordingError("unreachable", f"{where} cannot be read now (it answers {status}): try again later")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what caused it, in all the ways in which yt-dlp keeps that."""
    seen: set[int] = set()
    todo: list[Any] = [error]
    while todo:
        one = todo.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            todo += [getattr(one, "cause", None), *(getattr(one, "exc_info", None) or ())[1:2]]
            todo += [*(getattr(one, "unexpected_errors", None) or ()), one.__cause__, one.__context__]


def _line(error: BaseException) -> str:
    """The first line of a message, without what yt-dlp says about itself."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    text = _NOISE.sub("", text).strip()
    return shown(text.splitlines()[0].strip().rstrip(".:") if text else type(error).__name__)[:200]
