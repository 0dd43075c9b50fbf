"""Which keys are the lab's own."""

from collections.abc import Mapping

from sqlalchemy import select, update

from labd.store import tables
from labd.store.units.part import Part

_columns = tables.lab.c
_COLUMNS = {
    "signing-key.pem": _columns.key_id,
    "ca/authority.pem": _columns.authority_id,
    "secrets-key": _columns.secrets_key_id,
}
"""By the names of the files in a backup."""


class Keys(Part):
    """The keys of a unit of work: their IDs only."""

    def key_ids(self) -> dict[str, str]:
        """By the names of the files; those that the lab has."""
        row = self._connection.execute(select(*_COLUMNS.values())).one()
        return {name: value for name, value in zip(_COLUMNS, row, strict=True) if value is not None}

    def save_key_ids(self, ids: Mapping[str, str]) -> None:
        """In place of those that there were."""
        self._connection.execute(
            update(tables.lab).values({column: ids.get(name) for name, column in _COLUMNS.items()})
        )
