"""Compliance: what the installation is like, held against the HIPAA Security Rule, and the report of it."""
