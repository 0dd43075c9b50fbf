"""helm and kubectl come from the package of the lock file, or somebody is told why not."""

import io
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from deploy import tools
from tests.tools import tool


def wheel(folder: Path, *, layer: dict[str, bytes]) -> Path:
    """A package built as the real one is, with other contents."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        for name, content in layer.items():
            archive.writestr(name, content)
    npm = io.BytesIO()
    with tarfile.open(fileobj=npm, mode="w:gz") as package:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(inner.getvalue())
        package.addfile(entry, io.BytesIO(inner.getvalue()))
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("some/_jsii/layer@1.jsii.tgz", npm.getvalue())
    return path


def test_the_lock_file_names_a_version_with_its_hash_and_no_index() -> None:
    lines = " ".join(line for line in tools.LOCK.read_text().splitlines() if not line.startswith("#"))
    assert re.fullmatch(r"[\w.-]+==[\d.]+ +\\ +--hash=sha256:[0-9a-f]{64}", lines)
    assert "://" not in tools.LOCK.read_text()


def test_programs_are_unpacked_ready_to_start(tmp_path: Path) -> None:
    tools.unpack(wheel(tmp_path, layer={"helm/helm": b"#!/bin/sh\necho helm", "kubectl/kubectl": b"#"}), tmp_path)
    assert subprocess.run([tmp_path / "helm"], capture_output=True, check=True).stdout == b"helm\n"


def test_a_package_built_otherwise_is_named(tmp_path: Path) -> None:
    with pytest.raises(tools.ToolsError, match=r"package\.whl does not carry helm and kubectl"):
        tools.unpack(wheel(tmp_path, layer={"helm/helm": b""}), tmp_path)


def test_a_registry_that_answers_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(slow))
    with pytest.raises(tools.ToolsError, match=r"not there after 0\.2 s"):
        tools.fetch(tmp_path / "tools", deadline_s=0.2)
    assert not tools.present(tmp_path / "tools")


def test_a_registry_that_has_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ERROR: no matching distribution' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(broken))
    with pytest.raises(tools.ToolsError, match="no matching distribution"):
        tools.fetch(tmp_path / "tools")


@pytest.mark.parametrize(("name", "arguments"), [("helm", ["version"]), ("kubectl", ["version", "--client"])])
def test_the_programs_run(name: str, arguments: list[str]) -> None:
    done = subprocess.run([tool(name), *arguments], capture_output=True, text=True, check=True, timeout=60)
    assert "v1.34" in done.stdout or "v4." in done.stdout
