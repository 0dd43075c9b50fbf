"""What is stored of sign-ins, and which lab is the one that is meant when none is named."""

from pathlib import Path

import pytest

from labd.cli.main import main
from labd.client.credentials import Credential, latest, store

ONE, OTHER = "https://one.example:8470", "https://other.example:8470"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LABD_URL", raising=False)


def home_of_labctl() -> object:
    url = next(parameter for parameter in main.params if parameter.name == "url")
    return url.get_default(main.make_context("labctl", ["bench"]))


def test_nobody_signed_in_anywhere() -> None:
    assert latest() is None
    assert home_of_labctl() == "http://127.0.0.1:8470"


def test_labctl_means_the_lab_signed_in_to_last() -> None:
    store(ONE, Credential("a"))
    store(OTHER, Credential("b"))
    assert (latest(), home_of_labctl()) == (OTHER, OTHER)
    store(ONE, Credential("renewed"))  # a renewal is no sign-in
    assert latest() == OTHER
    store(OTHER, None)
    assert latest() == ONE


def test_a_file_that_cannot_be_read_names_no_lab(tmp_path: Path) -> None:
    store(ONE, Credential("a"))
    (tmp_path / "labd" / "credentials.json").write_text("{")
    assert home_of_labctl() == "http://127.0.0.1:8470"
