def demo() -> None:
    """Written by its owner."""
