"""What keeps labd from starting."""


class StartError(Exception):
    """labd cannot start; the message says why and what would help."""
