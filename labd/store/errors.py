"""Why the store cannot be used. Messages name the file and say what would help."""


class StoreError(Exception):
    """The database cannot be used."""


class DatabaseCorrupt(StoreError):
    """The file is no SQLite database, or a damaged one."""


class DatabaseNewer(StoreError):
    """A newer labd wrote the database."""


class DatabaseInUse(StoreError):
    """Another labd uses the data directory."""


class DatabaseUnwritable(StoreError):
    """The disk is full, or fails."""


class DatabaseBusy(StoreError):
    """Another writer held the database for longer than a write may wait."""
