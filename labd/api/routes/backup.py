"""Backups."""

from collections.abc import Iterator
from typing import IO, Annotated

from fastapi import Header
from fastapi.responses import StreamingResponse

from labd.api.context import ActorOf, LabOf
from labd.api.problems import responses
from labd.api.routing import Router

router = Router(prefix="/backup", tags=["labd"])
_CHUNK = 256 * 1024


@router.get(
    "",
    response_class=StreamingResponse,
    responses={
        **responses(),
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
    },
    summary="Make a backup",
)
def make_backup(
    lab: LabOf,
    actor: ActorOf,
    labd_passphrase: Annotated[
        str | None,
        Header(max_length=1000, description="Seals labd's keys into the backup; without it, they are not in it."),
    ] = None,
) -> StreamingResponse:
    """The whole database as of this moment, as a zip file; `labd restore` takes it in."""
    file = lab.backups.make(actor, labd_passphrase)
    size = file.seek(0, 2)
    file.seek(0)
    return StreamingResponse(_chunks(file), media_type="application/zip", headers={"Content-Length": str(size)})


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk
