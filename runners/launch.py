"""How a runner process is started: its command, its environment, its bounds."""

import os
import sys
from pathlib import Path

COMMAND = (sys.executable, "-P", "-m", "scenarios")
"""-P: the scratch directory must not be searched for modules."""
NURSERY = (*COMMAND, "nursery")
"""Has what a runner needs loaded, and forks one each time (see `runners.nursery`)."""
SCRIPT_VARIABLE = "LABD_SCRIPT"
"""Environment variable: the file in which a pod gets its script."""
SOURCE_VARIABLE = "LABD_SOURCE"
"""Environment variable: the folder in which a pod gets its script from Git, by ``python -m runners.git_source``."""
FILE_BYTES_MAX = 64 * 1024 * 1024
"""Largest file that a runner may write, its output among them."""
STOP_REASON_FILE = "stop-reason.txt"
"""In the runner's scratch directory: why it is told to stop."""
ADDRESS_VARIABLE = "LABD_BENCH_ADDRESS"
"""Environment variable: where the runner reaches its bench, instead of the address in its assignment."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


def environment() -> dict[str, str]:
    """What a runner gets of this process' environment: no secret is in it."""
    tracing = [name for name in os.environ if name.startswith("OTEL_") and not name.endswith("HEADERS")]
    inherited = {name: os.environ[name] for name in (*_INHERITED, *tracing) if name in os.environ}
    # Whoever runs from a source tree gives its runners the same tree.
    root = str(Path(__file__).parents[1])
    if Path(root).name != "site-packages":
        inherited["PYTHONPATH"] = os.pathsep.join(filter(None, (root, inherited.get("PYTHONPATH"))))
    return inherited


def tls_variables(ca: Path, server_name: str) -> dict[str, str]:
    """The environment variables by which a runner knows labd: its authorities, and the name that it shows."""
    return {"LABD_CA": str(ca.absolute()), "LABD_SERVER_NAME": server_name}


def run_variables(url: str, run_id: str, token: str, traceparent: str | None = None) -> dict[str, str]:
    """The environment variables that tell a runner its run: labd's REST API at ``url``, the run's token, its trace."""
    variables = {"LABD_URL": url, "LABD_RUN_ID": run_id, "LABD_RUN_TOKEN": token}
    return variables | ({} if traceparent is None else {"TRACEPARENT": traceparent})
