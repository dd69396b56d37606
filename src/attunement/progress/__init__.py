"""A client's journey over weeks, months and years: the journal, what changed in it, and whether the change is real (docs/progress.md)."""
