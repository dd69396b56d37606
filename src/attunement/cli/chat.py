def chat() -> None:
    """Written by its owner."""
