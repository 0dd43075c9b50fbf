"""Why the store cannot be used. Messages name the file and say what would help."""


class StoreError(Exception):
    """The database cannot be used."""


class DatabaseCorrupt(StoreError):
    """The file is no SQLite database, or a damaged one."""


class DatabaseNewer(StoreError):
    """A newer labd wrote the database."""


class DatabaseOlder(StoreError):
    """An older labd wrote the database, and others may use it."""


class DatabaseMissing(StoreError):
    """There is no database yet."""


class DatabaseUrlInvalid(StoreError):
    """The URL is of no database that labd knows."""


class SchemaUnknown(StoreError):
    """There is no such revision of the schema."""


class DatabaseNotEmpty(StoreError):
    """A backup is to be restored into something that is in use."""


class DatabaseInUse(StoreError):
    """Another labd uses the data directory."""


class DatabaseUnwritable(StoreError):
    """The disk is full or fails, or the server cannot be reached."""


class DatabaseBusy(StoreError):
    """Another writer held the database for longer than a write may wait."""


class KeyTaken(StoreError):
    """A request with the same idempotency key was faster."""
