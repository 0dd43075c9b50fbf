from pathlib import Path

import pytest

from labd.client import LabError
from scenarios.data_files import DataFiles
from scenarios.sandbox import ScenarioFault

CONTENT = {"trip.blf": b"LOGG", "images/app.hex": b":00000001FF"}


class Fetched(list[str]):
    """What was fetched."""

    def __call__(self, name: str) -> bytes:
        self.append(name)
        return CONTENT[name]


@pytest.fixture
def fetched() -> Fetched:
    return Fetched()


@pytest.fixture
def files(fetched: Fetched, tmp_path: Path) -> DataFiles:
    return DataFiles({name: len(content) for name, content in CONTENT.items()}, fetched, tmp_path)


def test_a_file_is_fetched_once(files: DataFiles, fetched: Fetched) -> None:
    paths = [files.path(name) for name in ("trip.blf", "./images/app.hex", "trip.blf")]
    assert [path.read_bytes() for path in paths] == [b"LOGG", b":00000001FF", b"LOGG"]
    assert paths[1].name == "app.hex"
    assert fetched == ["trip.blf", "images/app.hex"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trp.blf", "no file 'trp.blf' came with this run; did you mean 'trip.blf'?"),
        ("x", "no file 'x' came with this run; there are images/app.hex, trip.blf"),
        ("/etc/passwd", "no file '/etc/passwd' came with this run"),
        ("../trip.blf", "no file '../trip.blf' came with this run"),
        (7, "file is 7; it must be the name of a file that came with the run"),
    ],
)
def test_no_other_file_can_be_reached(files: DataFiles, fetched: Fetched, name: object, message: str) -> None:
    with pytest.raises(ScenarioFault) as refused:
        files.path(name)
    assert refused.value.fields["kind"] == "invalid"
    assert message in str(refused.value)
    assert fetched == []


def test_without_any_file_the_message_says_how_to_bring_one(tmp_path: Path) -> None:
    with pytest.raises(ScenarioFault, match=r"give it with: labctl run SCRIPT --file trip.blf"):
        DataFiles({}, Fetched(), tmp_path).path("logs/trip.blf")


def test_a_file_that_the_lab_does_not_give_breaks_the_lab_not_the_test(tmp_path: Path) -> None:
    def fetch(_name: str) -> bytes:
        raise LabError("it is on fire")

    with pytest.raises(ScenarioFault, match=r"file trip.blf cannot be fetched: it is on fire") as broken:
        DataFiles({"trip.blf": 4}, fetch, tmp_path / "files").path("trip.blf")
    assert broken.value.fields["kind"] == "lab"
