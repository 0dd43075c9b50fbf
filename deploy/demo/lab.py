"""A whole lab on this machine: labd and bench agents as processes of their own, stopped together."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from labd.client import LabClient

ROOT = Path(__file__).parents[2]
DEMO_AGENT = ROOT / "deploy" / "demo" / "agent.yaml"
START_DEADLINE_S = 180.0
STOP_DEADLINE_S = 15.0
_FIRST_LOOK_S, _LAST_LOOK_S = 0.02, 0.25


class LabStartError(Exception):
    """A process of the lab died or was not ready in time."""


@dataclass
class Lab:
    """A running lab. Processes write their output to ``folder/NAME.log``."""

    folder: Path
    http: str = ""
    """labd's base URL."""
    agents: str = ""
    """host:port at which labd takes agents."""
    ca: str | None = None
    """File of labd's certificate authority; None: it runs with --insecure."""
    token: str | None = None
    """Of the first admin, where labd asks who one is."""
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def client(self) -> LabClient:
        """A new client of this lab's REST API."""
        return LabClient(self.http, token=self.token, ca=self.ca)

    def wait_for(self, what: str, ready: Callable[[], bool], *, deadline_s: float = START_DEADLINE_S) -> None:
        """Returns once ``ready`` answers True; raises LabStartError when a process died or the deadline (s) is over."""
        deadline = time.monotonic() + deadline_s
        pause_s = _FIRST_LOOK_S
        while not ready():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    log = (self.folder / f"{name}.log").read_text(errors="replace")
                    raise LabStartError(f"{name} ended with exit code {process.returncode}:\n{log[-2000:]}")
            if time.monotonic() > deadline:
                raise LabStartError(f"no {what} within {deadline_s:.0f} s; see the logs in {self.folder}")
            # Ever more rarely: to ask labd costs it the time that it needs to start.
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LAST_LOOK_S)

    def wait_for_benches(self, *names: str) -> None:
        """Returns once the named benches are available."""
        with self.client() as client:
            self.wait_for(
                f"available benches {', '.join(names)}",
                lambda: set(names) <= {bench["name"] for bench in client.benches() if bench["state"] == "available"},
            )


@contextmanager
def service(
    name: str, arguments: Sequence[str], folder: Path, prefix: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """``PREFIX python -m ARGUMENTS``, output in ``folder/name.log``; at the end SIGTERM, SIGKILL after a deadline."""
    with (folder / f"{name}.log").open("ab") as log:
        # A session of its own: Ctrl-C in the terminal reaches the caller alone, who then stops things in order.
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def labd_command(folder: Path, http: str, agents: str, *, secure: bool = False) -> list[str]:
    """Arguments of `service` for a labd with its data in ``folder/labd``; addresses are host:port, port 0 is any."""
    command = ["labd.daemon", "serve", "--data", str(folder / "labd"), "--http", http, "--agents", agents]
    return command if secure else [*command, "--insecure"]


def agent_command(configuration: Path, labd: str, data: Path, *, secure: bool = False) -> list[str]:
    """Arguments of `service` for an agent on a free port of loopback that attaches to ``labd`` (host:port)."""
    files = [str(configuration), "--data", str(data)]
    command = ["bench_agent.main", "serve", *files, "--listen", "127.0.0.1:0", "--labd", labd]
    return command if secure else [*command, "--insecure"]


def enrol(lab: Lab, configuration: Path, data: Path) -> None:
    """Enrols the agent of a configuration file with a secure lab. Raises LabStartError."""
    name = yaml.safe_load(configuration.read_text())["agent"]["name"]
    with lab.client() as client:
        token = client.invite_agent(name)["token"]
    command = ["bench_agent.main", "enrol", str(configuration), "--data", str(data), "--labd", lab.http, "--token", "-"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        input=token,
        text=True,
        capture_output=True,
        timeout=START_DEADLINE_S,
        check=False,
    )
    if done.returncode:
        raise LabStartError(f"agent {name} is not enrolled: {done.stderr}")


@contextmanager
def running_lab(folder: Path, *agents: Path, secure: bool = False, options: Sequence[str] = ()) -> Iterator[Lab]:
    """labd with its data in ``folder/labd`` and one agent per configuration file, on free ports of loopback.

    ``secure``: as they run by default, with TLS and enrolled agents; otherwise ``--insecure``. ``options`` are further
    ones of `labd serve`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lab = Lab(folder)
    ready_file = folder / "labd" / "labd.json"
    ready_file.unlink(missing_ok=True)
    with ExitStack() as stack:
        command = [*labd_command(folder, "127.0.0.1:0", "127.0.0.1:0", secure=secure), *options]
        lab.processes["labd"] = stack.enter_context(service("labd", command, folder))
        lab.wait_for("ready labd", ready_file.exists)
        endpoints = json.loads(ready_file.read_text())
        lab.http, lab.agents, lab.ca = endpoints["http"], endpoints["agents"], endpoints["ca"]
        if secure:
            lab.token = (folder / "labd" / "admin.token").read_text().strip()
        for number, configuration in enumerate(agents, start=1):
            name = f"agent-{number}" if len(agents) > 1 else "agent"
            if secure:
                enrol(lab, configuration, folder / name)
            command = agent_command(configuration, lab.agents, folder / name, secure=secure)
            lab.processes[name] = stack.enter_context(service(name, command, folder))
        yield lab
