"""Revisions of the SQL store, each with what it changes. A new one is entered into `REVISIONS`, too."""
