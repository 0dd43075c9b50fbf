"""Starts the lab and its doors, and stops them in order."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from labd.daemon.addresses import hosts, join
from labd.daemon.assembly import assembled, bootstrap, https_context, points_writer, tell_prometheus
from labd.daemon.errors import StartError
from labd.daemon.settings import Door, Settings

if TYPE_CHECKING:
    import ssl

    import uvicorn

    from labd.agents.server import AgentsServer
    from labd.services.lab import Lab

ADDRESS_FILE = "labd.json"
"""In the data directory while labd serves: where it listens, and its process ID."""
DRAIN_S = 3
"""How long open requests may go on once labd stops."""
KEEP_ALIVE_S = 30
"""How long an idle connection stays: longer than holders pause between heartbeats, as another handshake costs both."""
PEER_GONE_S = 30
"""A client whose machine has vanished without a word loses its connections by then, as one does that reads nothing."""
_BACKLOG = 256


def serve_lab(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. Raises StartError."""
    # Imported here, so that --help and refusals are quick.
    from labd.store.errors import StoreError
    from labd.store.lock import DataLock

    data, tls = settings.data, settings.tls
    os.umask(0o077)  # what is in the data directory is nobody else's business
    allow_many_files()
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DataLock(data)
    except OSError as error:
        raise StartError(f"the data directory {data} cannot be used: {error}") from error
    except StoreError as error:
        raise StartError(str(error)) from error
    with contextlib.ExitStack() as opened:
        opened.enter_context(lock)
        listener = opened.enter_context(listen(*settings.http))
        host, port = listener.getsockname()[:2]
        local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - recognised, not bound
        url = f"{'http' if tls is None else 'https'}://{join(local, port)}"
        points = opened.enter_context(points_writer(data.resolve() / "points", settings.influx))
        lab = opened.enter_context(assembled(settings, url, points))
        if settings.metrics is not None:
            opened.enter_context(tell_prometheus(lab, settings.metrics))
        loop = opened.enter_context(_event_loop())
        context = None if tls is None else https_context(lab, tls, [host, *hosts(settings.public_url or url)])
        bootstrap(lab, data, url)
        loop.run(_run(lab, listener, settings, url, context))


def allow_many_files() -> None:
    """Opens as many files as this process may: each attached agent and each follower has a connection of its own."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _event_loop() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # not made for this platform
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def _run(
    lab: "Lab",
    listener: socket.socket,
    settings: Settings,
    url: str,
    context: "ssl.SSLContext | None",
) -> None:
    from labd.agents.server import AddressInUse, AgentsServer
    from labd.services.peers import KeyDiffers
    from labd.store.errors import StoreError

    data, agents = settings.data, settings.agents
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(16, thread_name_prefix="labd"))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agents_server = AgentsServer(lab)
    try:
        agents_port = agents_server.bind(join(*agents))
    except AddressInUse as error:
        await agents_server.stop()
        raise StartError(f"{error} (is another labd running? choose another --agents address)") from error
    server = web_server(lab, context, settings.door)
    web: asyncio.Task[None] | None = None
    try:
        # Before anybody is let in: a request must not find leases that ran out only because labd was down.
        await asyncio.to_thread(lab.start)
        web = asyncio.create_task(server._serve([listener]))  # serve() itself would take the signals
        await agents_server.start()
        while not server.started:
            if web.done():
                web.result()
                raise StartError("the web server ended at once")
            await asyncio.sleep(0.005)
        ca = None if lab.authority is None else str(lab.authority.trust_file.absolute())
        addresses = {"http": url, "agents": join(agents[0], agents_port), "ca": ca, "pid": os.getpid()}
        _announce(data, addresses)
        await stop.wait()
    except (KeyDiffers, StoreError) as error:
        raise StartError(str(error)) from error
    finally:
        (data / ADDRESS_FILE).unlink(missing_ok=True)
        await _stop(lab, server, web, agents_server)


async def _stop(lab: "Lab", server: "uvicorn.Server", web: "asyncio.Task[None] | None", agents: "AgentsServer") -> None:
    structlog.get_logger().info("labd stops")
    # Runs first, so that their followers still hear of the end, and agents of the fences.
    try:
        await asyncio.to_thread(lab.stop)
    finally:
        lab.hang_up()
        server.should_exit = True
        await asyncio.gather(*([] if web is None else [web]), agents.stop(), return_exceptions=True)


def web_server(lab: "Lab", context: "ssl.SSLContext | None", door: Door) -> "uvicorn.Server":
    """The REST API."""
    import uvicorn

    from labd.api.app import create_app

    http: Any = "auto"
    with contextlib.suppress(ImportError):  # httptools is not made for this platform
        from labd.api.connections import limited

        http = limited(door.limits.address_connections, door.proxies)

    return uvicorn.Server(
        uvicorn.Config(
            create_app(lab, door.limits),
            http=http,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            # By itself uvicorn believes whoever is on this machine.
            proxy_headers=bool(door.proxies.networks),
            forwarded_allow_ips=door.proxies.networks,
            server_header=False,
            ssl_context_factory=None if context is None else lambda *_: context,
            timeout_graceful_shutdown=DRAIN_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )


def _announce(data: Path, addresses: dict[str, Any]) -> None:
    part = data / f"{ADDRESS_FILE}.part"
    part.write_text(json.dumps(addresses) + "\n", "utf-8")
    part.replace(data / ADDRESS_FILE)
    click.echo(f"labd serves {addresses['http']}, agents attach at {addresses['agents']}, data in {data}")


def listen(host: str, port: int) -> socket.socket:
    """A socket whose connections end when their clients vanish. Raises StartError."""
    from labd.client.urls import silence_options

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise StartError(
            f"cannot listen on {join(host, port)}: {error.strerror} (is another labd running? "
            "choose another --http address)"
        ) from error
    for option in silence_options(PEER_GONE_S):
        listener.setsockopt(*option)  # those that it accepts have them too
    return listener
