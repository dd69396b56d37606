"""Transcripts and documents: what was said and answered, what was added to a record; encrypted, in the SQL store or in MongoDB; nothing lost, nothing double."""
