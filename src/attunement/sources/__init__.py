"""Sources of conversations and concepts: one package each for edge cases, dual personas and knowledge."""

from pathlib import Path

WRITTEN = Path(__file__).parent / "written"
"""What was written for Attunement: beats, scenarios, personas, concepts."""
