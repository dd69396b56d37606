"""Every module that owns tables of the store: imported before a command works on all of them."""

from __future__ import annotations


def know_all() -> None:
    """Has them enter their tables and their kinds of a client's record. What is not known is left out of a PostgreSQL backup, of an
    export, of a deletion's count."""
    import attunement.curation.review
    import attunement.progress.tables
    import attunement.security.agreements
    import attunement.security.audit
    import attunement.security.entry
    import attunement.security.holds
    import attunement.security.incidents
    import attunement.serving.feedback
    import attunement.serving.reviews  # noqa: F401
    from attunement.security.clients import kinds

    kinds()
