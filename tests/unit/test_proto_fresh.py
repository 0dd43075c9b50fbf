"""The committed gRPC code is what `make proto` generates from the .proto files."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTOCOL = Path("bench_agent/protocol")


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "grpc_python")]
    outputs += [f"--{kind}_out=quiet:{tmp_path}" for kind in ("mypy", "mypy_grpc")]
    protos = sorted(str(path.relative_to(ROOT)) for path in (ROOT / PROTOCOL).glob("*.proto"))
    plugins = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, *protos],
        cwd=ROOT,
        env={**os.environ, "PATH": plugins},
        check=True,
        timeout=60,
    )
    generated = sorted(path.name for path in (tmp_path / PROTOCOL).iterdir())
    committed = sorted(path.name for path in (ROOT / PROTOCOL).glob("*_pb2*"))
    assert generated == committed
    stale = [
        name for name in generated if (tmp_path / PROTOCOL / name).read_text() != (ROOT / PROTOCOL / name).read_text()
    ]
    assert not stale, "run `make proto`"
