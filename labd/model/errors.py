"""What the state machines refuse."""


class IllegalTransition(Exception):
    """A noun was asked to go where its present state does not lead; the message names both."""
