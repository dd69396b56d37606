"""Readers of concepts: one module a format, the cleaning that all share, and the facts of known sources."""
