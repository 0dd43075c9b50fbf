"""What the Helm chart makes: taken by three releases of Kubernetes, restricted, with few rights and real options."""

import functools
import json
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from bench_agent.main import main as bench_agent
from bench_agent.server import config as agent_config
from labd.daemon import main as labd
from labd.executors.kubernetes.access import needs
from labd.executors.kubernetes.settings import read_clusters_file
from labd.model.identity import Role, Scope
from labd.services.providers import read_access_file, roles_of
from tests.unit.deploying.chart import (
    CHART,
    EXAMPLES,
    NAMESPACE,
    ROOT,
    Manifest,
    Refused,
    containers,
    helm,
    of_kind,
    pods,
    render,
)
from tests.unit.deploying.programs import parse

KUBERNETES = ("1.34", "1.35", "1.36")
DEFAULTS = CHART / "values.yaml"
ALL = [DEFAULTS, *EXAMPLES]
NODE = "$(NODE)"
OF_FILES = ("--tls-", "--access=", "--clusters=", "--influx-token-file=", "--influx-ca=")


@functools.cache
def rendered(values: Path) -> list[Manifest]:
    return render(values=None if values == DEFAULTS else values)


def arguments(container: Manifest) -> list[str]:
    """As the kubelet gives them, whatever the node is called."""
    return [one.replace(NODE, "n1").replace("$(ADDRESS)", "10.0.0.1") for one in container["args"]]


def policy(values: Path, name: str) -> Manifest:
    found: Manifest = of_kind(rendered(values), "NetworkPolicy", name)["spec"]
    return found


def example(name: str) -> Path:
    return next(path for path in EXAMPLES if path.stem == name)


def test_helm_finds_no_fault() -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("release", KUBERNETES)
@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_kubernetes_takes_every_object(values: Path, release: str) -> None:
    for manifest in rendered(values):
        if not manifest["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(manifest, release, strict=True)


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_no_two_objects_have_one_name(values: Path) -> None:
    names = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in rendered(values)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_pods_keep_to_the_restricted_standard(values: Path) -> None:
    for name, spec in pods(rendered(values)).items():
        if name == "DaemonSet/labd-agent":  # its disk is the node's, its bus as well: said in values.yaml
            continue
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        for volume in [*spec.get("volumes", [])]:
            assert {"configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim"} & volume.keys(), name
        for container in containers(spec):
            of_container = container["securityContext"]
            assert of_container["allowPrivilegeEscalation"] is False, name
            assert of_container["capabilities"] == {"drop": ["ALL"]}, name
            assert of_container["readOnlyRootFilesystem"] is True, name


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_pods_say_what_they_need_and_get_no_token_unless_they_use_it(values: Path) -> None:
    asks_the_cluster = {"StatefulSet/labd", "Job/labd-make-keys", "Deployment/labd-operator"}
    for name, spec in pods(rendered(values)).items():
        assert spec["automountServiceAccountToken"] is (name in asks_the_cluster), name
        assert spec["enableServiceLinks"] is False, name
        for container in containers(spec):
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_an_agent_without_hardware_of_its_node_is_restricted_but_for_its_disk() -> None:
    spec = pods(rendered(example("vcan")))["DaemonSet/labd-agent"]
    assert [next(iter(one.keys() - {"name"})) for one in spec["volumes"] if "hostPath" in one] == ["hostPath"]
    rights = {one["name"]: one["securityContext"]["capabilities"].get("add") for one in containers(spec)}
    assert rights == {"enrol": None, "vcan": ["NET_ADMIN"], "ecu-ecm": None, "agent": None}


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_the_programs_take_their_options(values: Path) -> None:
    specs = pods(rendered(values))
    for container in containers(specs["StatefulSet/labd"]):
        # Files that are in the container only.
        parse(labd, [one for one in arguments(container) if not one.startswith(OF_FILES)])
    if "DaemonSet/labd-agent" in specs:
        [agent] = specs["DaemonSet/labd-agent"]["containers"]
        parse(bench_agent, arguments(agent))
        for probe in (agent["startupProbe"], agent["readinessProbe"]):
            *command, folder = probe["exec"]["command"]
            assert command == ["python", "-P", "-m", "bench_agent.server.health_check"]
            assert f"--data={folder}" in arguments(agent), "the kubelet puts no field reference into a probe"
        for container in containers(specs["DaemonSet/labd-agent"]):
            if container["name"].startswith("ecu-"):
                parse(bench_agent, container["command"][1:])


@pytest.mark.parametrize("values", [DEFAULTS, example("production")], ids=lambda path: path.stem)
def test_the_operator_is_let_in_by_labd_and_by_the_cluster(values: Path, tmp_path: Path) -> None:
    manifests = rendered(values)
    spec = pods(manifests)["Deployment/labd-operator"]
    [container] = spec["containers"]
    parse(labd, container["args"])
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    [token] = next(one["projected"]["sources"] for one in spec["volumes"] if one["name"] == "token")
    assert token["serviceAccountToken"]["audience"] == "labd"

    (tmp_path / "access.yaml").write_text(of_kind(manifests, "ConfigMap", "labd")["data"]["access.yaml"])
    [cluster] = read_access_file(tmp_path / "access.yaml").kubernetes
    roles, scopes = roles_of(cluster.grants, {"namespace": NAMESPACE, "serviceaccount": spec["serviceAccountName"]})
    teams = yaml.safe_load(values.read_text())["operator"]["namespaces"].values() or ["default"]
    assert roles == dict.fromkeys(teams, Role.ENGINEER)
    assert scopes == frozenset({Scope.READ, Scope.RUN})
    assert roles_of(cluster.grants, {"namespace": "other", "serviceaccount": spec["serviceAccountName"]})[0] == {}


def test_the_operator_may_handle_test_runs_and_its_lease_only() -> None:
    manifests = rendered(DEFAULTS)
    verbs = {
        "testruns": ["get", "list", "watch", "patch", "delete"],
        "testruns/status": ["patch"],
        "events": ["create"],
    }
    assert rules(manifests, "ClusterRole", f"{NAMESPACE}-labd-operator") == verbs
    assert rules(manifests, "Role", "labd-operator-lead") == {"leases": ["get", "create", "update"]}
    narrowed = rendered(example("production"))
    assert not any(one["kind"] == "ClusterRole" and "operator" in one["metadata"]["name"] for one in narrowed)
    places = [one["metadata"]["namespace"] for one in narrowed if one["metadata"]["name"] == "labd-operator"]
    assert sorted(set(places)) == ["chassis-ci", NAMESPACE, "powertrain-ci"]


def test_prometheus_finds_the_ports_of_agents_and_operator_and_is_let_in() -> None:
    manifests = rendered(example("production"))
    ports = {"labd-agent": "DaemonSet", "labd-operator": "Deployment"}
    for name, kind in ports.items():
        monitor = of_kind(manifests, "PodMonitor", name)["spec"]
        pod = of_kind(manifests, kind, name)["spec"]["template"]
        assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        [endpoint] = monitor["podMetricsEndpoints"]
        [container] = pod["spec"]["containers"]
        assert endpoint["port"] in [port["name"] for port in container["ports"]]
        open_to = [rule for rule in policy(example("production"), name)["ingress"] if "from" in rule]
        assert [rule["from"] for rule in open_to if rule["ports"][0]["port"] == endpoint["port"]] == [
            [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        ]
    assert not any(one["kind"].endswith("Monitor") for one in rendered(DEFAULTS))
    [labd_pod] = of_kind(manifests, "StatefulSet", "labd")["spec"]["template"]["spec"]["containers"]
    assert "--metrics-topas" in labd_pod["args"]


def test_prometheus_finds_the_port_of_every_labd() -> None:
    manifests = rendered(example("production"))
    monitor = of_kind(manifests, "ServiceMonitor", "labd")["spec"]
    service = of_kind(manifests, "Service", "labd-each")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    others = [one for one in manifests if one["kind"] == "Service" and one is not service]
    assert not any(monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items() for one in others)
    assert monitor["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_labd_reads_the_files_that_the_chart_writes(values: Path, tmp_path: Path) -> None:
    files = of_kind(rendered(values), "ConfigMap", "labd")["data"]
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    clusters = read_clusters_file(tmp_path / "clusters.yaml")
    assert clusters.choose(None).url == f"https://labd.{NAMESPACE}.svc:8470"
    if "access.yaml" in files:
        read_access_file(tmp_path / "access.yaml")


@pytest.mark.parametrize("name", ["production", "vcan"])
def test_the_agent_reads_the_files_that_the_chart_writes(name: str, tmp_path: Path) -> None:
    manifests = rendered(example(name))
    for file, content in of_kind(manifests, "ConfigMap", "labd-benches")["data"].items():
        (tmp_path / file).write_text(content)
    [node] = yaml.safe_load(example(name).read_text())["agents"]["nodes"]
    assert agent_config.check(tmp_path / f"{node}.yaml") == []
    config = agent_config.load(tmp_path / f"{node}.yaml").agent
    assert (config.name, config.labd) == (node, (f"labd-agents.{NAMESPACE}.svc:8471",))


def test_pods_of_runs_are_whom_the_policies_and_rights_are_for() -> None:
    manifests = rendered(example("production"))
    files = of_kind(manifests, "ConfigMap", "labd")["data"]
    [cluster] = yaml.safe_load(files["clusters.yaml"])["clusters"]
    assert cluster["namespace"] == "labd-runs"
    assert cluster["service_account"] == "labd-run"
    assert cluster["image"] == "registry.example.com/labd/runner:0.1.0"
    assert cluster["node_selector"] == {"pool": "tests"}
    assert of_kind(manifests, "ServiceAccount", "labd-run")["metadata"]["namespace"] == "labd-runs"
    assert of_kind(manifests, "Role", "labd-runs")["metadata"]["namespace"] == "labd-runs"


def rules(manifests: list[Manifest], kind: str, name: str) -> dict[str, list[str]]:
    """Verbs by resource."""
    return {
        resource: rule["verbs"] for rule in of_kind(manifests, kind, name)["rules"] for resource in rule["resources"]
    }


def test_labd_has_the_rights_that_it_uses_and_no_others() -> None:
    manifests = rendered(DEFAULTS)
    assert rules(manifests, "Role", "labd-runs") == {
        "pods": ["create", "get", "list", "watch", "delete"],
        "configmaps": ["create", "get", "list", "delete"],
    }
    assert rules(manifests, "ClusterRole", f"{NAMESPACE}-labd-tokens") == {"tokenreviews": ["create"]}


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_labd_misses_no_right_that_it_asks_for_at_its_start(values: Path, tmp_path: Path) -> None:
    manifests = rendered(values)
    (tmp_path / "clusters.yaml").write_text(of_kind(manifests, "ConfigMap", "labd")["data"]["clusters.yaml"])
    cluster = read_clusters_file(tmp_path / "clusters.yaml").choose(None)
    granted = {
        (verb, resource, group)
        for one in manifests
        if one["kind"] in ("Role", "ClusterRole") and one["metadata"]["name"] in ("labd-runs", "lab-labd-tokens")
        for rule in one["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    # Of a ConfigMap that is there already, it asks whose that is.
    assert granted == {*needs(cluster), ("get", "configmaps", "")}


def test_secrets_are_written_only_where_pods_prove_themselves_by_them() -> None:
    with_secrets = rules(rendered(example("vcan")), "Role", "labd-runs")
    assert with_secrets["secrets"] == ["create"]
    assert not any(one["kind"] == "ClusterRole" for one in rendered(example("vcan")))


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_nobody_may_read_secrets_or_everything(values: Path) -> None:
    for manifest in rendered(values):
        for rule in manifest.get("rules", []) if manifest["kind"] in ("Role", "ClusterRole") else []:
            assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
            if "secrets" in rule["resources"]:
                assert not {"get", "list", "watch"} & set(rule["verbs"])


def peers(rules: list[Manifest], direction: str, port: int | str) -> list[Manifest]:
    return [peer for rule in rules for peer in rule[direction] if port in [one["port"] for one in rule["ports"]]]


def test_test_pods_reach_labd_agents_and_the_names_and_nothing_else() -> None:
    found = policy(DEFAULTS, "labd-runs")
    assert found["policyTypes"] == ["Ingress", "Egress"]
    assert found["ingress"] == []
    assert found["podSelector"] == {
        "matchLabels": {"app.kubernetes.io/managed-by": "labd"},
        "matchExpressions": [{"key": "labd.dev/run", "operator": "Exists"}],
    }
    components = {
        one["ports"][0]["port"]: one["to"][0]["podSelector"]["matchLabels"].get("app.kubernetes.io/component")
        for one in found["egress"]
    }
    assert components == {8470: "daemon", 8480: "agent", 53: None}
    names = peers(found["egress"], "to", 53)
    assert [peer["podSelector"]["matchLabels"] for peer in names] == [{"k8s-app": "kube-dns"}]


def test_what_is_outside_of_the_cluster_is_opened_by_address_and_port() -> None:
    found = policy(example("production"), "labd-runs")
    blocks = [
        (peer["ipBlock"]["cidr"], rule["ports"][0]["port"])
        for rule in found["egress"]
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    assert blocks == [("192.168.7.0/24", 8480), ("10.20.0.5/32", 443)]


def test_labd_talks_to_what_it_needs_and_to_nobody_else_where_that_is_narrowed() -> None:
    assert policy(DEFAULTS, "labd")["policyTypes"] == ["Ingress"]
    found = policy(example("production"), "labd")
    assert found["policyTypes"] == ["Ingress", "Egress"]
    goals = [
        (
            peer["ipBlock"]["cidr"]
            if "ipBlock" in peer
            else peer["podSelector"]["matchLabels"].get("app.kubernetes.io/component", "DNS"),
            rule["ports"][0]["port"],
        )
        for rule in found["egress"]
        for peer in rule["to"]
    ]
    assert goals == [
        ("daemon", 8470),
        ("agent", 8480),
        ("192.168.7.0/24", 8480),
        ("10.0.0.1/32", 6443),
        ("10.20.1.0/29", 5432),
        ("10.20.2.10/32", 8086),
        ("203.0.113.0/24", 443),
        ("DNS", 53),
    ]
    bundled = render(
        "--set",
        "networkPolicy.egress.enabled=true,networkPolicy.egress.destinations[0].cidr=10.0.0.1/32,"
        "networkPolicy.egress.destinations[0].port=6443",
        values=example("trial"),
    )
    egress = of_kind(bundled, "NetworkPolicy", "labd")["spec"]["egress"]
    assert {5432, 8086} <= {rule["ports"][0]["port"] for rule in egress}


def test_policies_select_the_pods_that_they_are_about() -> None:
    manifests = rendered(example("production"))
    for name, of in (("labd", "StatefulSet"), ("labd-agent", "DaemonSet")):
        wanted = of_kind(manifests, "NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"]
        labels = of_kind(manifests, of, name)["spec"]["template"]["metadata"]["labels"]
        assert wanted.items() <= labels.items()


def test_labd_is_reached_by_test_pods_in_their_namespace() -> None:
    [to_api, to_agents, _] = policy(example("production"), "labd")["ingress"]
    first = to_api["from"][0]
    assert first["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "labd-runs"}}
    assert to_api["ports"] == [{"port": "https", "protocol": "TCP"}]
    assert to_agents["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "agent"


def test_services_reach_the_ports_of_labd() -> None:
    manifests = rendered(DEFAULTS)
    daemon = of_kind(manifests, "StatefulSet", "labd")["spec"]["template"]
    ports = {one["name"]: one["containerPort"] for one in daemon["spec"]["containers"][0]["ports"]}
    for name in ("labd", "labd-agents", "labd-each"):
        service = of_kind(manifests, "Service", name)["spec"]
        assert service["selector"].items() <= daemon["metadata"]["labels"].items()
        for port in service["ports"]:
            assert ports[port["targetPort"]] == port["port"]


def test_probes_tell_a_labd_that_hangs_from_one_without_a_database() -> None:
    [container] = of_kind(rendered(DEFAULTS), "StatefulSet", "labd")["spec"]["template"]["spec"]["containers"]
    asked = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert asked == {
        "startup": "/api/v1/version",
        "readiness": "/api/v1/healthz",
        "liveness": "/api/v1/version",
    }


def test_several_labds_share_keys_and_may_be_drained_one_by_one() -> None:
    manifests = rendered(example("production"))
    spec = of_kind(manifests, "StatefulSet", "labd")["spec"]
    keys = next(one for one in spec["template"]["spec"]["volumes"] if one["name"] == "keys")["secret"]
    assert keys["secretName"] == "labd-keys"
    assert [item["path"] for item in keys["items"]] == [
        "signing-key.pem",
        "secrets-key",
        "ca/authority.pem",
        "ca/ca.pem",
    ]
    assert of_kind(manifests, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert not any(one["kind"] == "Job" for one in manifests)
    assert not any(one["kind"] == "PodDisruptionBudget" for one in rendered(DEFAULTS))


def test_the_pod_that_restores_has_what_labd_has() -> None:
    page = (ROOT / "docs/how-to/back-up-and-restore.md").read_text()
    written = page.partition("<!-- file: restore.yaml -->\n```yaml\n")[2].partition("```")[0]
    pod = yaml.safe_load(written)
    spec = of_kind(rendered(DEFAULTS), "StatefulSet", "labd")["spec"]
    for release in KUBERNETES:
        kubernetes_validate.validate(pod, release, strict=True)
    [restoring], [labd_pod] = pod["spec"]["containers"], spec["template"]["spec"]["containers"]
    assert (restoring["image"], restoring["securityContext"]) == (labd_pod["image"], labd_pod["securityContext"])
    mounts = [one for one in labd_pod["volumeMounts"] if one["name"] != "settings"]
    assert sorted(map(str, restoring["volumeMounts"])) == sorted(map(str, mounts))
    [keys, theirs] = [
        next(one["secret"] for one in of["volumes"] if one["name"] == "keys")
        for of in (pod["spec"], spec["template"]["spec"])
    ]
    assert keys == theirs
    assert spec["volumeClaimTemplates"][0]["metadata"]["name"] == "data"


def test_keys_are_made_before_anything_needs_them() -> None:
    job = of_kind(rendered(DEFAULTS), "Job", "labd-make-keys")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install"
    [container] = job["spec"]["template"]["spec"]["containers"]
    parse(labd, container["args"])
    assert container["args"][-1] == f"{NAMESPACE}/labd-keys"
    assert rules(rendered(DEFAULTS), "Role", "labd-make-keys") == {"secrets": ["create"]}


def test_passwords_are_in_secrets_only() -> None:
    manifests = rendered(example("trial"))
    secret = of_kind(manifests, "Secret", "labd-postgresql")["data"]["password"]
    others = [one for one in manifests if one["kind"] != "Secret"]
    assert secret not in yaml.safe_dump_all(others)
    [container] = of_kind(manifests, "StatefulSet", "labd")["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one for one in container["env"]}
    assert env["LABD_DATABASE"]["value"] == "postgresql://labd@labd-postgresql:5432/labd"
    assert env["PGPASSWORD"]["valueFrom"]["secretKeyRef"] == {"name": "labd-postgresql", "key": "password"}


def test_figures_go_to_the_influxdb_that_is_there() -> None:
    manifests = rendered(example("trial"))
    service = of_kind(manifests, "Service", "labd-influxdb")["spec"]["ports"][0]["port"]
    [labd_pod] = of_kind(manifests, "StatefulSet", "labd")["spec"]["template"]["spec"]["containers"]
    assert f"--influx-url=http://labd-influxdb:{service}" in labd_pod["args"]
    [influx] = of_kind(manifests, "StatefulSet", "labd-influxdb")["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in influx["env"]}
    assert f"--influx-org={env['DOCKER_INFLUXDB_INIT_ORG']}" in labd_pod["args"]
    assert f"--influx-bucket={env['DOCKER_INFLUXDB_INIT_BUCKET']}" in labd_pod["args"]


def test_dashboards_are_there_for_the_side_car_of_grafana() -> None:
    maps = [one for one in rendered(example("trial")) if one["metadata"].get("labels", {}).get("grafana_dashboard")]
    assert len(maps) == 4
    for one in maps:
        [(name, content)] = one["data"].items()
        source = ROOT / "deploy" / "grafana" / "dashboards" / name.removeprefix("labd-")
        assert json.loads(content) == json.loads(source.read_text())


def test_a_digest_wins_over_a_tag() -> None:
    digest = "sha256:" + "0" * 64
    manifests = render("--set", f"images.daemon.digest={digest},images.daemon.tag=v9")
    [container] = of_kind(manifests, "StatefulSet", "labd")["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"labd/daemon@{digest}"


def test_two_releases_share_a_cluster() -> None:
    one, other = (
        {(m["kind"], m["metadata"]["name"]) for m in render(release=release) if m["kind"] != "CustomResourceDefinition"}
        for release in ("north", "south")
    )
    assert not one & other


REFUSED: list[tuple[str, str]] = [
    ("labd.replcas=2", "additional properties 'replcas' not allowed"),
    ("labd.replicas=many", "/labd/replicas"),
    ("labd.replicas=2", "more than one labd takes PostgreSQL"),
    ("labd.logLevel=loud", "/labd/logLevel"),
    ("labd.publicUrl=http://labd", "/labd/publicUrl"),
    ("labd.data.size=ten", "/labd/data/size"),
    ("images.daemon.digest=sha256:12", "/images/daemon/digest"),
    ("database.mode=mysql", "/database/mode"),
    ("database.mode=external", "say where the database is"),
    ("database.external.url=postgresql://labd:secret@db/labd", "/database/external/url"),
    ("prometheus.serviceMonitor.enabled=true", "nothing to fetch"),
    ("prometheus.topas=true", "nothing to fetch"),
    ("prometheus.enabled=true,prometheus.agentsPort=8480", "choose another"),
    ("networkPolicy.egress.enabled=true", "labd talks to the API server"),
    ("runs.enabled=false", "there are no test pods without runs.enabled"),
    ("operator.executor=docker", "/operator/executor"),
    ("labd.access.kubernetes[0].issuer=https://kubernetes.default.svc.cluster.local", "is the operator's already"),
    ("influxdb.mode=external", "say url, org and tokenSecret.name"),
    ("influxdb.bundled.retention=ever", "/influxdb/bundled/retention"),
    ("agents.enabled=true", "say what the agent of each node serves"),
    ("agents.port=0", "/agents/port"),
    ("agents.devices={/dev/ttyUSB0}", "takes agents.privileged"),
    ("agents.devices={/etc/shadow}", "/agents/devices/0"),
    ("agents.nodeSelector=null", "missing property 'nodeSelector'"),
    ("agents.nodes.n1.agent.name=n1", "missing property 'benches'"),
    ("runs.identity=none", "/runs/identity"),
    ("networkPolicy.git[0].cidr=10.0.0.1,networkPolicy.git[0].port=443", "/networkPolicy/git/0/cidr"),
]


@pytest.mark.parametrize(("values", "message"), REFUSED, ids=[values for values, _ in REFUSED])
def test_wrong_values_are_refused_by_name(values: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        render("--set", values)
    assert message in str(refused.value)


def test_a_simulated_ecu_is_on_a_bus_that_there_is() -> None:
    with pytest.raises(Refused, match="ecm is on can7, which is none of"):
        render("--set", "agents.simulators.ecus[0].interface=can7", values=example("vcan"))


def test_every_value_has_a_rule_in_the_schema() -> None:
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())
    values = yaml.safe_load(DEFAULTS.read_text())

    def missing(rule: dict[str, Any], value: object, path: str) -> list[str]:
        rule = schema["definitions"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
        if not isinstance(value, dict) or "properties" not in rule:
            return []
        found = [f"{path}.{name}" for name in value if name not in rule["properties"]]
        for name in value.keys() & rule["properties"].keys():
            found += missing(rule["properties"][name], value[name], f"{path}.{name}")
        return found

    assert missing(schema, values, "") == []
