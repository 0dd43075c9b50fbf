"""Letting an admin in again when every admin's token is lost: by whoever may read and write labd's database."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from labd.model.identity import LOCAL_OPERATOR, WHOLE_LAB, ActorKind, Role, User
from labd.services.errors import Conflict
from labd.services.identities import ADMIN_TOKEN_LIFETIME_S, issue_token, require_reason, require_user_name
from labd.services.ledger import Ledger
from labd.services.limits import RunLimits
from labd.store.database import DATABASE_NAME, database_at
from labd.store.errors import DatabaseMissing, DatabaseOlder
from labd.store.schema import SCHEMA_HEAD, newer, revision_of
from labd.store.store import Store


def admin_token(
    data: Path,
    url: str | None,
    name: str,
    why: str,
    *,
    revoke_others: bool = False,
    now: Callable[[], float] = time.time,
) -> str:
    """A new token of the user ``name``, who becomes an admin of the whole lab; a user that labd does not know is made.

    ``revoke_others`` ends all other tokens of the user. labd may serve meanwhile. Raises StoreError, Invalid without a
    reason or with a name that no user can have, and Conflict when the user was removed, or has too many tokens.
    """
    require_reason(LOCAL_OPERATOR, why, "a token made on the daemon's machine")
    require_present_schema(data, url)
    store = Store(data, url)
    try:
        with store.write() as unit:
            ledger = Ledger(unit, now(), lambda _: False, RunLimits(), LOCAL_OPERATOR, granting=False)
            _make_admin(ledger, name, why)
            if revoke_others:
                _revoke_tokens(ledger, name, why)
            _, text = issue_token(ledger, name, "recovery", None, ADMIN_TOKEN_LIFETIME_S, why=why)
            return text
    finally:
        store.close()


def require_present_schema(data: Path, url: str | None) -> None:
    """A database that a running labd uses is not migrated beside it, nor is one made where none is."""
    if url is None and not (data / DATABASE_NAME).exists():
        raise DatabaseMissing(f"there is no database {data / DATABASE_NAME}: is --data right?")
    database = database_at(data, url)
    try:
        with database.engine.connect() as connection:
            revision = revision_of(connection, database.name)
    except DBAPIError as error:
        meaning = database.explain(error)
        if meaning is None:
            raise
        raise meaning from error
    finally:
        database.engine.dispose()
    if revision is None:
        raise DatabaseMissing(f"the database {database.name} is empty: no labd has used it yet")
    if revision > SCHEMA_HEAD:
        raise newer(database.name, revision)
    if revision < SCHEMA_HEAD:
        raise DatabaseOlder(
            f"the database {database.name} has the schema {revision!r}, this labd {SCHEMA_HEAD!r}: "
            "use the labd that serves it, or `labd migrate` first"
        )


def _make_admin(ledger: Ledger, name: str, why: str) -> None:
    user = ledger.unit.user(name)
    if user is None:
        require_user_name(name)
        ledger.unit.add_user(User(name, ActorKind.PERSON, ledger.now))
        ledger.audit("user.created", f"user/{name}", after={"kind": ActorKind.PERSON}, why=why)
    elif user.removed_at is not None:
        raise Conflict(f"user {name!r} was removed; no name is used twice: choose another with --user")
    role = ledger.unit.roles(name).get(WHOLE_LAB)
    if role is not Role.ADMIN:
        ledger.unit.save_member(WHOLE_LAB, name, Role.ADMIN)
        ledger.audit(
            "member.saved",
            f"team/{WHOLE_LAB}",
            before=None if role is None else {"member": name, "role": role},
            after={"member": name, "role": Role.ADMIN},
            why=why,
        )


def _revoke_tokens(ledger: Ledger, owner: str, why: str) -> None:
    for token in ledger.unit.api_tokens(owner):
        if token.revoked_at is None:
            ledger.unit.save_api_token(replace(token, revoked_at=ledger.now))
            ledger.audit("token.revoked", f"token/{token.prefix}", before={"owner": owner}, why=why)
