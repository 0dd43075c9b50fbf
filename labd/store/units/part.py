"""What the parts of a unit of work share."""

from collections.abc import Callable

from sqlalchemy import Connection

from labd.store.standing import Standing, Standings
from labd.store.untold import Untold


class Part:
    """Works on one open transaction."""

    def __init__(
        self,
        connection: Connection,
        standings: Standings,
        standing: Standing | None = None,
        prepare: Callable[[], None] | None = None,
        *,
        writes: bool = False,
    ) -> None:
        """``standing``: how the lab stands after what the transaction has done already, where that is known.

        ``prepare`` is called once, before the unit asks the database for anything that may have changed. Who ``writes``
        tells the database in the end what is `untold`.
        """
        self._writes = writes
        self._standings = standings
        self._read = standing
        self._untold = Untold()
        self._aside = connection
        """For what no change that may be untold has to do with: it is read without telling them."""
        self._prepare = prepare

    @property
    def untold(self) -> Untold:
        """What the database has not been told yet."""
        return self._untold

    @property
    def _telling(self) -> Untold:
        """What it is yet to be told. Raises RuntimeError in a unit that only reads."""
        if not self._writes:
            raise RuntimeError("this unit of work only reads: what it changes would be lost")
        return self._untold

    @property
    def _connection(self) -> Connection:
        """The database, which has been told everything."""
        if self._prepare is not None:
            prepare, self._prepare = self._prepare, None
            prepare()
        if self._untold:
            untold, self._untold = self._untold, Untold()
            untold.tell(self._aside)
        return self._aside
