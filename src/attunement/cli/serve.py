def serve() -> None:
    """Written by its owner."""
