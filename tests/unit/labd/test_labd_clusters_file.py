"""The file of clusters: what it may say, and what is said of mistakes in it."""

from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from labd.executors.kubernetes.access import needs
from labd.executors.kubernetes.quantity import amount
from labd.executors.kubernetes.settings import Clusters, UnknownCluster, read_clusters_file
from labd.settings_file import SettingsError
from tests.docs.pages import ROOT, blocks


def _read(path: Path, text: str) -> Clusters:
    path = path / "clusters.yaml"
    path.write_text(text)
    return read_clusters_file(path)


def _mistakes(path: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as failure:
        _read(path, text)
    return [line.removeprefix(f"{path / 'clusters.yaml'}:") for line in str(failure.value).splitlines()]


def test_a_name_and_an_image_are_enough(tmp_path: Path) -> None:
    clusters = _read(tmp_path, "clusters: [{name: lab, image: registry.example.com/labd-runner:1.0}]")
    cluster = clusters.choose(None)
    assert cluster is clusters.choose("lab")
    assert (cluster.namespace, cluster.identity, cluster.pull_policy) == ("labd", "projected", "IfNotPresent")
    assert cluster.user, "not root"
    assert cluster.limits.ephemeral_storage == "1Gi"


def test_what_is_not_said_of_resources_stays_as_it_is_by_default(tmp_path: Path) -> None:
    cluster = _read(tmp_path, "clusters: [{name: lab, image: a, limits: {memory: 2Gi}, requests: {cpu: 1}}]").choose(
        None
    )
    assert (cluster.limits.cpu, cluster.limits.memory, cluster.limits.ephemeral_storage) == ("1", "2Gi", "1Gi")
    assert (cluster.requests.cpu, cluster.requests.memory) == ("1", "128Mi")


def test_numbers_are_quantities_too(tmp_path: Path) -> None:
    text = "clusters: [{name: lab, image: a, limits: {cpu: 2, memory: 1Gi, ephemeral_storage: 2Gi}, scratch: 2G}]"
    assert _read(tmp_path, text).choose(None).limits.cpu == "2"


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("1500m", 1.5), ("2Ki", 2048), ("0.5G", 500_000_000), ("3Ti", 3 * 1024**4)]
)
def test_quantities_are_as_kubernetes_reads_them(text: str, value: float) -> None:
    assert float(amount(text)) == value


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    text = (
        "clusters:\n"
        "  - name: Big\n"
        "    image: runner:1\n"
        "    namespce: hil\n"
        "  - name: small\n"
        "    image: runner:1\n"
        "    kubeconfig: /no/such/file\n"
        "    scratch: 12 apples\n"
        "    identity: token\n"
        "    tolerations:\n"
        "      - {operator: Exists, value: x}\n"
        "    node_selector: {'a b': c}\n"
    )
    mistakes = _mistakes(tmp_path, text)
    places = sorted(tuple(mistake.split(": ")[:2]) for mistake in mistakes)
    assert places == [
        ("11", "clusters.1.tolerations.0"),
        ("12", "clusters.1.node_selector.a b.[key]"),
        ("2", "clusters.0.name"),
        ("4", "clusters.0.namespce"),
        ("7", "clusters.1.kubeconfig"),
        ("8", "clusters.1.scratch"),
        ("9", "clusters.1.identity"),
    ]
    assert any("did you mean 'namespace'?" in mistake for mistake in mistakes)
    assert any("expected a quantity such as 500m, 1.5, 512Mi or 2Gi, not '12 apples'" in one for one in mistakes)
    assert "2: clusters.0.name: expected a name of at most 63 lower-case letters, digits and '-', not 'Big'" in mistakes
    assert "7: clusters.1.kubeconfig: there is no file '/no/such/file'" in mistakes


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("requests: {cpu: 2, memory: 1Mi, ephemeral_storage: 1Mi}", "requests.cpu is 2, more than limits.cpu"),
        ("scratch: 2Gi", "scratch is 2Gi, more than limits.ephemeral_storage, which is 1Gi"),
        ("context: lab", "context is one of a kubeconfig"),
        ("labels: {labd.dev/run: r-1}", "are labd's own"),
        ("git: {size: 300Mi}", "git.size is 300Mi, more than half of scratch, which is 512Mi"),
        (
            "git: {credentials: {secret: s, hosts: ['https://git.example.com']}}",
            "a URL's host in lower case: git.example.com:8443",
        ),
        ("git: {credentials: {secret: s, hosts: []}}", "hosts: expected those whose repositories need"),
        ("url: labd.lab.svc:8470", "expected a URL such as https://labd.lab.svc:8470"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, field: str, message: str) -> None:
    mistakes = _mistakes(tmp_path, f"clusters:\n  - name: lab\n    image: runner:1\n    {field}\n")
    assert len(mistakes) == 1
    assert message in mistakes[0]


def test_names_are_told_apart_and_one_is_the_default(tmp_path: Path) -> None:
    both = "clusters: [{name: a, image: i%s}, {name: %s, image: i%s}]"
    assert "two clusters have the name 'a'" in _mistakes(tmp_path, both % ("", "a", ""))[0]
    marks = both % (", default: true", "b", ", default: true")
    assert "two clusters are the default: a and b" in _mistakes(tmp_path, marks)[0]
    assert _read(tmp_path, both % ("", "b", ", default: true")).choose(None).name == "b"
    with pytest.raises(UnknownCluster, match="no cluster is the default: name one; there are 'a', 'b'"):
        _read(tmp_path, both % ("", "b", "")).choose(None)
    with pytest.raises(UnknownCluster, match="there is no cluster 'bb'; did you mean 'b'"):
        _read(tmp_path, both % ("", "b", "")).choose("bb")


def test_a_file_that_is_none_says_so(tmp_path: Path) -> None:
    assert "clusters" in _mistakes(tmp_path, "")[0]
    assert "expected 1 to 16 clusters, not 0" in _mistakes(tmp_path, "clusters: []")[0]
    assert "Input should be" in _mistakes(tmp_path, "clusters: 3")[0]
    with pytest.raises(SettingsError, match="No such file"):
        read_clusters_file(tmp_path / "none.yaml")


def test_the_files_that_the_manual_shows_are_right(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "run-on-kubernetes.md"
    shown = {block.value: block.code for block in blocks(page) if block.language == "yaml"}
    cluster = _read(tmp_path, shown["clusters.yaml"]).choose(None)
    assert cluster.limits.cpu == "2"
    rights = list(yaml.safe_load_all(shown["rights.yaml"]))
    for one in rights:
        kubernetes_validate.validate(one, "1.34", strict=True)
    granted = {
        (verb, resource, group)
        for one in rights
        for rule in one["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    assert granted == set(needs(cluster))
