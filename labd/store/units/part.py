"""What the parts of a unit of work share."""

from sqlalchemy import Connection


class Part:
    """Works on one open transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
