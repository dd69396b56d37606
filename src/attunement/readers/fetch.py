"""`attune data fetch`: public data sets with their licence shown and their checksums verified.

A recipe that pins a file's SHA-256 is held to it. Where it pins none, the first download is trusted, which is said, and
its checksum kept in `checksums.json` beside the files: every later one must match, so what changed upstream is noticed.
"""

from __future__ import annotations

import difflib
import hashlib
import ipaddress
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from attunement.errors import DataError, IntegrityError
from attunement.readers.sets import SourceSet, catalogue
from attunement.storage.files import atomic_write, file_hash, read_json, write_json

CHECKSUMS = "checksums.json"
TIMEOUT_SECONDS = 30.0
MOST_REDIRECTS = 5


@dataclass(frozen=True)
class FetchedFile:
    """A file that is there and whole; `pinned` says whether the recipe knew its checksum beforehand."""

    path: Path
    sha256: str
    pinned: bool


def fetch(
    name: str,
    folder: Path,
    *,
    base_url: str | None = None,
    accept: bool = False,
    ask: Callable[[str], bool] | None = None,
) -> list[FetchedFile]:
    """Downloads the set `name` to `folder`; files that are there and whole are not fetched again.

    `ask` puts the licence to the user where `accept` is not given. Raises `DataError` for an unknown set, a refused
    licence or a failed download, `IntegrityError` for a file that differs from its checksum (it is not kept).
    """
    source = find(name)
    if source.fetch is None:
        raise DataError(f"'{name}' cannot be fetched from here: get it at {source.url or 'its publisher'} and give its folder")
    base = (base_url or source.fetch.base).rstrip("/") + "/"
    _check_address(base)
    _agree(source, base, accept, ask)
    folder.mkdir(parents=True, exist_ok=True)
    return list(_brought(source.fetch.files, base, folder))


def _brought(files: dict[str, str], base: str, folder: Path) -> Iterator[FetchedFile]:
    """Each of `files` (path below `base` and below `folder`, to SHA-256 or '') once it is there and whole."""
    known = read_json(folder / CHECKSUMS) if (folder / CHECKSUMS).is_file() else {}
    with _progress() as progress:
        for remote, pinned in files.items():
            target, wanted = folder / remote, pinned or known.get(remote, "")
            if not (target.is_file() and wanted and file_hash(target) == wanted):
                known[remote] = _download(urljoin(base, remote), target, wanted, progress)
                write_json(folder / CHECKSUMS, known)
                if not wanted:
                    _tell(
                        f"no checksum is pinned for {remote}: kept sha256 {known[remote]}; later downloads must match",
                        progress.console,
                    )
            yield FetchedFile(target, wanted or known[remote], bool(pinned))


def find(name: str) -> SourceSet:
    """The set of the catalogue. Raises `DataError` that names the nearest known one."""
    by_name = {entry.name: entry for entry in catalogue()}
    if name not in by_name:
        near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.0)
        raise DataError(f"there is no public set '{name}'; did you mean '{near[0]}'? List them with  attune data fetch")
    return by_name[name]


def _tell(text: str, console: Console | None = None) -> None:
    (console or Console(stderr=True)).print(text, soft_wrap=True, markup=False, highlight=False)


def _agree(source: SourceSet, base: str, accept: bool, ask: Callable[[str], bool] | None) -> None:
    _tell(
        f"{source.title}\n  licence: {source.licence} (class {source.licence_class})\n  from:    {source.url}\n  files:   {base}"
    )
    if accept:
        return
    if ask is None:
        raise DataError("the licence was not accepted: read it above and add --accept-licence")
    if not ask("Do you accept this licence?"):
        raise DataError("the licence was not accepted: nothing was fetched")


def _check_address(url: str) -> None:
    """HTTPS only; plain HTTP on this machine. Raises `DataError`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        own = ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = host == "localhost"
    if parts.scheme != "https" and not (parts.scheme == "http" and own):
        raise DataError(f"{parts.scheme}://{host} is not secure: only https addresses are fetched from")


def _download(url: str, target: Path, wanted: str, progress: Progress) -> str:
    """Writes `url` to `target`, whole or not at all, and returns its SHA-256."""
    import httpx

    digest, task = hashlib.sha256(), progress.add_task(target.name, total=None)
    try:
        with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client, atomic_write(target, binary=True) as file:
            with client.stream("GET", _resolved(client, url)) as answer:
                if answer.status_code != 200:
                    raise DataError(f"{url} answers {answer.status_code} {answer.reason_phrase}: try --base-url with a mirror")
                progress.update(task, total=int(answer.headers.get("content-length", 0)) or None)
                for piece in answer.iter_bytes():
                    digest.update(piece)
                    file.write(piece)
                    progress.advance(task, len(piece))
            if wanted and digest.hexdigest() != wanted:
                raise IntegrityError(
                    f"{target.name} differs from its checksum (wanted {wanted[:16]}, got {digest.hexdigest()[:16]}): it was not kept"
                )
    except httpx.HTTPError as error:
        raise DataError(f"cannot fetch {url}: {str(error) or type(error).__name__}") from error
    return digest.hexdigest()


def _resolved(client: Any, url: str) -> str:
    """Where `url` leads; each step is checked as the first address was."""
    for _ in range(MOST_REDIRECTS):
        _check_address(url)
        answer = client.head(url)
        if not answer.has_redirect_location:
            return url
        url = urljoin(url, answer.headers["location"])
    raise DataError(f"{url} redirects too often")


def _progress() -> Progress:
    columns = (TextColumn("{task.description:>24}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
