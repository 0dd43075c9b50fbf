"""Changing the key that secrets are sealed with, while no labd uses the data."""

from pathlib import Path

from labd.services.environments import seal_anew
from labd.services.vault import KEY_FILE, Vault
from labd.store.lock import DataLock
from labd.store.store import Store


def rotate(data: Path, url: str | None, key_file: Path) -> str:
    """Makes a new key, seals all secrets with it and forgets the old ones; says what was done.

    Interrupted at any moment, it leaves a file whose keys open everything. Raises StoreError, KeyUnusable and
    SecretUnreadable; then the old keys stay.
    """
    with DataLock(data):
        vault = Vault(key_file)
        store = Store(data, url)
        try:
            vault.add_key()
            with store.write() as unit:
                sealed = seal_anew(unit, vault)
                unit.save_key_ids({**unit.key_ids(), KEY_FILE: vault.key_id})
            dropped = vault.drop_old_keys()
        finally:
            store.close()
    return f"{sealed} values are sealed with a new key, {dropped} old keys are gone from {vault.path}"
