"""Licences as sites word them, as codes; what is not understood is unknown, never free."""

from __future__ import annotations

import pytest

from attunement.sources.voice.licences import licence_class, licence_code, page_licence

BY = '<a rel="license nofollow" href="//creativecommons.org/licenses/by/4.0/">CC</a>'


@pytest.mark.parametrize(
    ("said", "code", "named"),
    [
        ("Creative Commons Attribution licence (reuse allowed)", "CC-BY-4.0", "R"),
        ("by-nc-nd", "CC-BY-NC-ND-4.0", "N"),
        ("Attribution - Share Alike", "CC-BY-SA-4.0", "SA"),
        ("cc-by-nc-sa", "CC-BY-NC-SA-4.0", "NC"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 International License", "CC-BY-NC-ND-4.0", "N"),
        ("https://creativecommons.org/licenses/by-sa/3.0/us/", "CC-BY-SA-3.0", "SA"),
        ("http://creativecommons.org/licenses/publicdomain/", "public-domain", "R"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", "R"),
        *(
            (word, "unknown", "unknown")
            for word in (None, "", "all-rights-reserved", "Standard License", "not CC BY", "by nobody")
        ),
    ],
)
def test_a_licence_has_a_code_and_a_class(said: str | None, code: str, named: str) -> None:
    assert (licence_code(said), licence_class(licence_code(said))) == (code, named)
    assert licence_code(code) == code


def test_youtube_means_version_three() -> None:
    assert licence_code("Creative Commons Attribution license (reuse allowed)", site="Youtube") == "CC-BY-3.0"


@pytest.mark.parametrize(
    ("html", "code"),
    [
        (BY, "CC-BY-4.0"),
        (f'{BY}<link rel=license href="https://creativecommons.org/licenses/by/4.0/">', "CC-BY-4.0"),
        (f'{BY}<link rel=license href="https://creativecommons.org/licenses/by-nc/4.0/">', "unknown"),
        (f'<!-- {BY} --><a href="https://creativecommons.org/licenses/by/4.0/">what CC is</a>', "unknown"),
        (
            BY + '<script type="application/ld+json">{"@graph": [{"@type": "AudioObject",'
            '"license": "https://creativecommons.org/licenses/by-nd/4.0"}]}</script>',
            "CC-BY-ND-4.0",
        ),
        ('<script type="application/ld+json">{"license": </script>' + BY, "CC-BY-4.0"),
    ],
)
def test_a_page_states_its_licence(html: str, code: str) -> None:
    assert page_licence(html, "https://example.org/") == code
