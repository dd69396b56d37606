"""Transcripts: what was said and answered, encrypted, in the SQL store or in MongoDB; nothing lost and nothing double."""
