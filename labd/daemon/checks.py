"""What may be wrong with how labd was set up: what it was told, and the files that it was given."""

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from labd.daemon.options import key_files
from labd.daemon.settings import Settings
from labd.model.check import Check, CheckState
from labd.services.doctor import certificate_checks

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_VERIFIED = ("require", "verify-ca", "verify-full")
"""Of PostgreSQL's sslmode: the connection is encrypted, whatever the server says."""


def configuration_checks(settings: Settings, *, now: Callable[[], float] = time.time) -> Iterator[Check]:
    """Of one labd, as it was started and as its files are now."""
    yield Check("configuration", CheckState.OK, _summary(settings))
    yield from _insecure(settings)
    yield from _spool(settings)
    for option, path in _secret_files(settings):
        yield from _secret_file(option, path)
    if settings.influx.ca_file is not None:
        remedy = "get the authority's new certificate"
        yield from certificate_checks("--influx-ca", settings.influx.ca_file, now(), remedy)


def _summary(settings: Settings) -> str:
    influx, clusters = settings.influx, settings.clusters
    parts = [
        f"data in {settings.data}",
        "PostgreSQL" if settings.database is not None else "SQLite",
        "TLS" if settings.tls is not None else "insecure",
        f"InfluxDB at {influx.url}, bucket {influx.bucket}" if influx.url is not None else "no InfluxDB",
        "Prometheus" if settings.metrics is not None else "no Prometheus",
        f"clusters {', '.join(one.name for one in clusters.clusters)}" if clusters is not None else "no clusters",
        f"{len(settings.providers)} identity providers",
    ]
    return ", ".join(parts)


def _insecure(settings: Settings) -> Iterator[Check]:
    if settings.tls is None and settings.http[0] not in _LOOPBACK:
        text = f"labd asks nobody at {settings.http[0]} who they are, without TLS: whoever reaches it controls the lab"
        yield _warning("--insecure-on-network", text, "serve without --insecure-on-network")
    influx = urlsplit(settings.influx.url or "")
    if influx.scheme == "http" and influx.hostname not in _LOOPBACK and settings.influx.token_file is not None:
        text = f"InfluxDB's token goes to {influx.hostname} in the clear"
        yield _warning("--influx-url", text, "use https, with --influx-ca if its authority is your own")
    if settings.database is not None:
        yield from _database(settings.database)


def _database(url: str) -> Iterator[Check]:
    from sqlalchemy import make_url

    given = make_url(url)
    host = given.host or given.query.get("host")
    mode = given.query.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")
    if isinstance(host, str) and not host.startswith("/") and host not in _LOOPBACK and mode not in _VERIFIED:
        text = f"sslmode is {mode}: nothing keeps what goes to {host} from being read, or from going to somebody else"
        yield _warning("--database", text, "add ?sslmode=verify-full&sslrootcert=FILE to the URL")


def _spool(settings: Settings) -> Iterator[Check]:
    if settings.influx.url is None:
        return
    folder = settings.data / "points" / "spool"
    used = sum(path.stat().st_size for path in folder.glob("*.points")) if folder.is_dir() else 0
    free = shutil.disk_usage(settings.data).free
    more = settings.influx.spool_bytes - used
    if free < more:
        text = f"the spool may grow by {more / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free"
        yield _warning("--influx-spool-mb", text, "make room, or lower it: a full disk stops the whole lab")


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path]]:
    keys = key_files(settings.keys, settings.secrets_key, authority=settings.tls is not None)
    yield from keys.items()
    if settings.influx.token_file is not None:
        yield "--influx-token-file", settings.influx.token_file
    if settings.tls is not None and settings.tls.certificate is not None:
        yield "--tls-key", settings.tls.key or settings.tls.certificate
    for cluster in settings.clusters.clusters if settings.clusters is not None else ():
        if cluster.kubeconfig is not None:
            yield f"kubeconfig of cluster {cluster.name}", cluster.kubeconfig


def _secret_file(option: str, path: Path) -> Iterator[Check]:
    try:
        mode = path.stat().st_mode
        with path.open("rb"):
            pass
    except OSError as error:
        remedy = "put the file back, readable for labd's user"
        yield Check(f"file: {option}", CheckState.ERROR, f"{path} cannot be read: {error.strerror}", remedy)
        return
    if mode & stat.S_IRWXO:
        text = f"{path} has the mode {stat.S_IMODE(mode):04o}: everybody on this machine may reach what it holds"
        yield _warning(f"file: {option}", text, f"chmod o= {path}")


def _warning(name: str, text: str, remedy: str) -> Check:
    return Check(name, CheckState.WARNING, text, remedy)
