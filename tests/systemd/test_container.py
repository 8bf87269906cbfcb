"""What systemd/examples/container says of a container is true, as far as that can be seen without one.

The entry point of the image runs with a read-only root, as a user without rights. Linters and schemas that are too
large for every test run are in `make container-check`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from relay.cli.main import relay
from relay.sandbox.daemon import find_free_port
from relay.testing import make_event

CONTAINER = Path(__file__).parents[2] / "systemd" / "examples" / "container"
DOCKERFILE = (CONTAINER / "Dockerfile").read_text().replace("\\\n", " ")
LISTEN = tomllib.loads((CONTAINER / "00-container.toml").read_text())
KUBERNETES = ("kubernetes.yaml", "kubernetes-postgres.yaml")
USER = "10001"
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'


def said(instruction: str) -> Any:
    """What the last stage of the Dockerfile says by an instruction that takes a JSON array."""
    return json.loads(re.findall(rf"^{instruction}.*?(\[.*\])$", DOCKERFILE, re.MULTILINE)[-1])


def environment() -> dict[str, str]:
    """The environment variables of the image but for its PATH."""
    (line,) = re.findall(r"^ENV (.*)$", DOCKERFILE, re.MULTILINE)
    return dict(one.split("=", 1) for one in line.split() if not one.startswith("PATH="))


def documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CONTAINER / name).read_text()))


def kubernetes(kind: str, name: str = "kubernetes.yaml") -> Any:
    (found,) = [one for one in documents(name) if one["kind"] == kind]
    return found


def is_possible() -> bool:
    """Whether namespaces can be made here."""
    tried = ["unshare", "--mount", "unshare", "--user", f"--map-user={USER}", "true"]
    return os.geteuid() == 0 and subprocess.run(tried, check=False, capture_output=True).returncode == 0


@contextmanager
def contained(folder: Path, port: int) -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command that puts another into the container, and its environment."""
    for name in ("state", "conf.d", "secrets"):
        (folder / name).mkdir()
    plain = (CONTAINER / "00-container.toml").read_text()
    (folder / "conf.d" / "00-container.toml").write_text(plain.replace("8080", str(port)).replace(":9464", ":0"))
    for name, text in kubernetes("ConfigMap")["data"].items():
        (folder / "conf.d" / name).write_text(text)
    (folder / "secrets" / "braze-token").write_text("s3cret\n")
    given = environment() | {"CREDENTIALS_DIRECTORY": str(folder / "secrets"), "STATE_DIRECTORY": str(folder / "state")}
    user = ["unshare", "--user", f"--map-user={USER}", f"--map-group={USER}"]
    yield ["unshare", "--mount", "sh", "-c", READ_ONLY, str(folder / "state"), *user], os.environ | given


@pytest.mark.skipif(not is_possible(), reason="takes root, and namespaces")
@pytest.mark.long
def test_the_entry_point_runs_without_rights_on_a_read_only_root(tmp_path: Path) -> None:
    port = find_free_port()
    assert said("ENTRYPOINT") == ["relay"]
    with contained(tmp_path, port) as (command, env):
        module = [*command, sys.executable, "-m"]
        run = [*module, *said("ENTRYPOINT"), *said("CMD"), "--conf", str(tmp_path / "conf.d")]
        with (tmp_path / "log").open("wb") as log, (tmp_path / "out").open("wb") as out:
            process = subprocess.Popen(run, env=env, stderr=log, stdout=out)
        try:
            wait_for(lambda: b"relay runs" in (tmp_path / "log").read_bytes())
            health = [*module, *said("HEALTHCHECK")]
            assert subprocess.run(health, env=env, check=False, capture_output=True).returncode == 0
            for path in {probe["httpGet"]["path"] for name, probe in container().items() if name.endswith("Probe")}:
                assert urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").status == 200
            body, token = b'{"events":[%s]}' % make_event(), {"Authorization": "Bearer s3cret"}
            asked = urllib.request.Request(f"http://127.0.0.1:{port}/currents", body, token)
            assert urllib.request.urlopen(asked).status == 202
            wait_for(lambda: any((tmp_path / "state" / "archive").glob("*.ndjson")))
            (stop,) = re.findall(r"^STOPSIGNAL (\w+)$", DOCKERFILE, re.MULTILINE)
            process.send_signal(signal.Signals[stop])
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
        assert subprocess.run(health, env=env, check=False, capture_output=True).returncode == 1
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert (tmp_path / "out").read_bytes() == b""


def wait_for(good: Any) -> None:
    ends = time.monotonic() + 30
    while not good():
        assert time.monotonic() < ends
        time.sleep(0.05)


def container(name: str = "kubernetes.yaml") -> Any:
    (found,) = kubernetes("StatefulSet", name)["spec"]["template"]["spec"]["containers"]
    return found


def test_the_image_has_a_user_of_its_own_and_one_place_to_write() -> None:
    assert re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE) == [f"{USER}:{USER}"]
    assert re.findall(r"^VOLUME (.*)$", DOCKERFILE, re.MULTILINE) == ["/var/lib/relay"]
    assert {one.split()[0].split("-")[-1] for one in re.findall(r"^FROM (.*)$", DOCKERFILE, re.MULTILINE)} == {"slim"}
    ports = [LISTEN[table]["listen"].partition(":")[2] for table in ("ingest", "metrics")]
    assert re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE) == [" ".join(ports)]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    assert all((CONTAINER.parents[2] / path).exists() for line in copied for path in line.split())
    project = tomllib.loads((CONTAINER.parents[2] / "pyproject.toml").read_text())
    packages = {one.partition("/")[0] for one in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert packages == {"relay", "plugins"}
    assert packages <= {path for line in copied for path in line.split()}


def test_the_compose_file_names_what_is_there() -> None:
    (compose,) = documents("compose.yaml")
    services = compose["services"]
    assert (CONTAINER / services["relay"]["build"]["context"] / services["relay"]["build"]["dockerfile"]).is_file()
    mounted = [one.split(":") for service in services.values() for one in service["volumes"]]
    for source, *_ in mounted:
        assert source in compose["volumes"] or (CONTAINER / source).exists(), source
    inside = {target: (CONTAINER / source).resolve() for source, target, *_ in mounted}
    assert inside["/etc/prometheus/alerts.yml"].parent.name == "monitoring"
    (prometheus,) = documents("prometheus/prometheus.yml")
    (job,) = prometheus["scrape_configs"]
    assert (job["job_name"], prometheus["rule_files"]) == ("relay", ["alerts.yml"])
    assert job["static_configs"] == [{"targets": [f"relay:{LISTEN['metrics']['listen'].partition(':')[2]}"]}]
    (provider,) = documents("grafana/dashboards.yml")[0]["providers"]
    assert f"{provider['options']['path']}/relay.json" in inside
    (source,) = documents("grafana/datasource.yml")[0]["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert compose["secrets"].keys() == {*services["relay"]["secrets"]}


def test_the_compose_file_with_postgresql_fits_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (compose,) = documents("compose-postgres.yaml")
    services = compose["services"]
    nodes = {name: one for name, one in services.items() if "stop_grace_period" in one}
    assert {one["hostname"] for one in nodes.values()} == {*nodes}  # each node has a name that stays
    assert {*services} == {*nodes, "init", "postgres", "balancer"}
    given = [secret for service in services.values() for secret in service.get("secrets", ())]
    assert compose["secrets"].keys() == {*given}
    for source, *_ in (one.split(":") for service in services.values() for one in service["volumes"]):
        assert source in compose["volumes"] or (CONTAINER / source).exists(), source
    for node in (*nodes.values(), services["init"]):
        assert f"/var/lib/relay:uid={USER},gid={USER},mode=0700" in node["tmpfs"]
    proxied = re.findall(r"reverse_proxy (.*) \{", (CONTAINER / "postgres" / "Caddyfile").read_text())
    assert proxied == [" ".join(f"{name}:{LISTEN['ingest']['listen'].partition(':')[2]}" for name in nodes)]
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "braze-token").write_text("s3cret\n")
    (tmp_path / "relay-dsn").write_text("host=postgres dbname=relay user=relay password=s3cret\n")
    answer = CliRunner().invoke(relay, ["check", str(CONTAINER / "postgres" / "conf.d")])
    assert answer.exit_code == 0, answer.output
    assert "1 warning" in answer.output, answer.output  # of the connection without TLS to the machine beside


@pytest.mark.parametrize("name", KUBERNETES)
def test_the_kubernetes_examples_fit_together(name: str) -> None:
    kinds = "StatefulSet", "PodDisruptionBudget", "Service"
    stateful, budget, service = (kubernetes(kind, name) for kind in kinds)
    labels = stateful["spec"]["template"]["metadata"]["labels"]
    assert stateful["spec"]["selector"]["matchLabels"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == labels
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    pod, one = stateful["spec"]["template"]["spec"], container(name)
    ports = {port["name"]: str(port["containerPort"]) for port in one["ports"]}
    assert ports == {table: LISTEN[table]["listen"].partition(":")[2] for table in ports}
    assert {one[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} <= {*ports}
    claimed = {claim["metadata"]["name"] for claim in stateful["spec"].get("volumeClaimTemplates", [])}
    volumes = {volume["name"] for volume in pod["volumes"]} | claimed
    assert {mount["name"] for mount in one["volumeMounts"]} == volumes
    assert environment()["CREDENTIALS_DIRECTORY"] in {mount["mountPath"] for mount in one["volumeMounts"]}
    assert str(pod["securityContext"]["runAsUser"]) == USER


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_config_map_is_a_configuration(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts one: links to files in a folder that has a link of its own."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "secrets"))
    (tmp_path / "secrets").mkdir()
    for secret, value in kubernetes("Secret", name)["stringData"].items():
        (tmp_path / "secrets" / secret).write_text(value)
    conf = tmp_path / "conf.d"
    (conf / "..2026_12_01").mkdir(parents=True)
    (conf / "..data").symlink_to("..2026_12_01")
    for file, text in kubernetes("ConfigMap", name)["data"].items():
        (conf / "..2026_12_01" / file).write_text(text)
        (conf / file).symlink_to(f"..data/{file}")
    answer = CliRunner().invoke(relay, ["check", str(conf)])
    assert answer.exit_code == 0, answer.output
    assert "0 warnings" in answer.output, answer.output
