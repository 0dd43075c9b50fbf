"""What the parts of a unit of work share."""

from sqlalchemy import Connection

from labd.store.standing import Standings


class Part:
    """Works on one open transaction."""

    def __init__(self, connection: Connection, standings: Standings) -> None:
        self._connection = connection
        self._standings = standings
