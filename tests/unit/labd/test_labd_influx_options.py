"""Options of ``labd serve`` that do not go together are refused at the start."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from labd.daemon import main


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--influx-org", "lab"], "--influx-org goes with --influx-url"),
        (["--influx-url", "influx:8086"], "--influx-url is 'influx:8086': expected an address such as https://"),
        (["--influx-url", "https://influx:8086"], "--influx-org is missing"),
        (["--influx-url", "https://influx:8086", "--influx-org", "lab"], "--influx-bucket is missing"),
        (["--influx-url", "https://influx:8086", "--influx-token-file", "nowhere"], "'nowhere' does not exist"),
        (["--influx-spool-mb", "0"], "'--influx-spool-mb'"),
    ],
)
def test_what_is_wrong_is_said_before_labd_starts(tmp_path: Path, options: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--insecure", "--data", str(tmp_path / "data"), *options])
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())
    assert not (tmp_path / "data").exists()
