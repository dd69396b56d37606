"""Migrations of the SQL store by Alembic: `attune store upgrade`.

Opening a store needs no Alembic: it looks at the one row that says which revision the store has.
"""
