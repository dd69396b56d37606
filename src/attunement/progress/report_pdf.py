"""The report as a PDF that is tagged for assistive technology (PDF/UA-1): WeasyPrint lays out the same HTML, without a browser."""

from __future__ import annotations

from typing import NoReturn

from attunement.errors import ConfigError, MissingExtraError, ServiceError

PAPERS = ("A4", "Letter")
NO_PANGO = (
    "a PDF needs the system library Pango 1.44 or newer, which pip does not install: on Debian and Ubuntu "
    "'apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0', on macOS 'brew install pango'; "
    "or print the HTML report to PDF from a browser"
)

UNPRINTED = (("<svg ", 'class="narrow-chart"', "</svg>"), ("<details ", 'class="long"', "</details>"))
"""What style rules hide in print, left out before it costs time: half of a page of ten years. How it opens, what its tag holds, how it closes. No
text of a client can look so, being escaped."""


def to_pdf(html: str, *, paper: str = "A4") -> bytes:
    """The page that `render` gave as a PDF on `paper` (A4 or Letter); about a third of a second of processor time a page.

    Raises `MissingExtraError` without WeasyPrint (extra `report`), `ServiceError` without the system's Pango, `ConfigError` for another paper.
    """
    if paper not in PAPERS:
        raise ConfigError(f"no paper {paper!r}: choose one of {', '.join(PAPERS)}")
    try:
        import weasyprint
    except ImportError as error:
        raise MissingExtraError("a report as PDF", "report") from error
    except OSError as error:  # the library loads Pango when it is imported
        raise ServiceError(NO_PANGO) from error
    sheet = weasyprint.CSS(string=f"@page {{ size: {paper} }}")
    page = weasyprint.HTML(string=printed(html), url_fetcher=_nothing_from_outside)
    pdf = page.write_pdf(stylesheets=[sheet], pdf_variant="pdf/ua-1")
    assert isinstance(pdf, bytes)
    return pdf


def printed(html: str) -> str:
    """The page without what is `UNPRINTED`."""
    for opens, holds, closes in UNPRINTED:
        kept, *parts = html.split(opens)
        for part in parts:
            tag, _, _ = part.partition(">")
            _, end, rest = part.partition(closes)
            kept += rest if holds in tag and end else opens + part
        html = kept
    return html


def _nothing_from_outside(url: str, *_: object, **__: object) -> NoReturn:
    raise ValueError("a report holds all that it shows")
