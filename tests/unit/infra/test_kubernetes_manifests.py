"""The manifests of a large run: whole, without secrets, and with commands, variables and ports that exist."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from blocks.dask_cluster import DaskCluster

FOLDER = Path(__file__).parents[3] / "infra" / "kubernetes"
DOCUMENT = FOLDER.parents[1] / "docs" / "large-runs.md"
FILES = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
PART_OF = {"app.kubernetes.io/part-of": "trainyard"}


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def pods() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """The metadata and the spec of each pod."""
    cluster = manifest("dask-cluster.yaml")["spec"]
    flows = manifest("flows.yaml")["spec"]["template"]
    return {
        "scheduler": (cluster["scheduler"]["metadata"], cluster["scheduler"]["spec"]),
        "worker": (cluster["worker"]["metadata"], cluster["worker"]["spec"]),
        "flows": (flows["metadata"], flows["spec"]),
    }


def containers() -> dict[str, dict[str, Any]]:
    """All of them by name; that of a pod is named as the pod."""
    return {one["name"]: one for _, spec in pods().values() for one in spec["containers"]}


def test_every_file_is_listed() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*FILES, "kustomization.yaml"}


def test_there_is_nothing_secret_in_them() -> None:
    for name in FILES:
        assert manifest(name)["kind"] != "Secret"
    for one in containers().values():
        for variable in one.get("env", []):
            secret = re.search("KEY|SECRET|TOKEN|PASSWORD|AUTH", variable["name"])
            assert not (secret and "value" in variable), variable["name"]


def test_all_pods_have_one_image_and_are_fenced() -> None:
    assert len({one["image"] for one in containers().values()}) == 1  # versions must agree
    policy = manifest("network-policy.yaml")["spec"]
    assert policy["podSelector"]["matchLabels"] == PART_OF
    assert policy["ingress"] == [{"from": [{"podSelector": {"matchLabels": PART_OF}}]}]
    for metadata, spec in pods().values():
        assert PART_OF.items() <= metadata["labels"].items()
        assert spec["automountServiceAccountToken"] is False


def test_the_commands_are_ones_of_the_installed_versions() -> None:
    dask_cuda = pytest.importorskip("dask_cuda.cli", reason="dask-cuda is not installed")
    from distributed.cli.dask_scheduler import main as scheduler

    for pod, words, command in (
        ("scheduler", ["dask", "scheduler"], scheduler),
        ("worker", ["dask", "cuda", "worker"], dask_cuda.worker),
    ):
        arguments = containers()[pod]["args"]
        assert arguments[: len(words)] == words
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert {one for one in arguments if one.startswith("--")} <= known  # unknown ones would be passed on
        given = command.make_context(pod, arguments[len(words) :]).params
        assert given["dashboard"] is False
        if pod == "worker":
            assert given["name"] == "$(DASK_WORKER_NAME)"  # which the operator sets
            assert given["scheduler"] is None  # and DASK_SCHEDULER_ADDRESS


def test_the_pool_of_the_flows_is_polled_by_processes() -> None:
    arguments = containers()["flows"]["args"]
    assert arguments[:3] == ["prefect", "worker", "start"]
    said = _prefect_help()
    assert [one for one in arguments if one.startswith("--") and one not in said] == []
    assert "prefect work-pool create gpu --type process" in DOCUMENT.read_text()
    assert arguments[arguments.index("--pool") + 1] == "gpu"


def test_the_queue_is_a_module_that_can_be_run() -> None:
    python, option, module = containers()["queue"]["args"]
    assert (python, option) == ("python", "-m")
    assert callable(importlib.import_module(module).main)


def _prefect_help() -> str:
    """What the installed `prefect worker start` says of its options."""
    command = [str(Path(sys.executable).with_name("prefect")), "worker", "start", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_64_gpus_are_reached_by_the_address_that_the_document_names() -> None:
    cluster = manifest("dask-cluster.yaml")
    limits = containers()["worker"]["resources"]["limits"]
    assert all(isinstance(one, str) for one in limits.values())  # a number is refused by the operator
    gpus = int(limits["nvidia.com/gpu"])
    assert cluster["spec"]["worker"]["replicas"] * gpus == 64
    namespace = manifest("kustomization.yaml")["namespace"]
    address = f"tcp://{cluster['metadata']['name']}-scheduler.{namespace}.svc.cluster.local:8786"
    assert address in DOCUMENT.read_text()
    assert DaskCluster(address=address).address == address
    ports = {one["name"]: one["containerPort"] for one in containers()["scheduler"]["ports"]}
    service = cluster["spec"]["scheduler"]["service"]
    assert {one["targetPort"]: one["port"] for one in service["ports"]} == ports
    assert ports["tcp-comm"] == 8786
    assert containers()["scheduler"]["readinessProbe"]["httpGet"]["port"] in ports


def test_ranks_and_flows_see_the_same_share_at_the_same_place() -> None:
    claim = manifest("share.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in ("worker", "flows"):
        spec = pods()[pod][1]
        (share,) = [one for one in spec["volumes"] if "persistentVolumeClaim" in one]
        assert share["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (place,) = [one for one in containers()[pod]["volumeMounts"] if one["name"] == share["name"]]
        home = {one["name"]: one.get("value") for one in containers()[pod]["env"]}["TRAINYARD_HOME"]
        assert home.startswith(place["mountPath"] + "/")


# What docs/large-runs.md says of the time of an all-reduce, from its formulas.
HOSTS, GPUS = 8, 8
FABRICS = {  # between GPUs of a host, and between hosts: bytes a second, seconds of latency
    "25 GbE, PCIe 4": ((25e9, 10e-6), (3.125e9, 30e-6)),
    "InfiniBand HDR, NVLink 3": ((300e9, 3e-6), (25e9, 5e-6)),
    "8 × InfiniBand NDR, NVLink 4": ((450e9, 3e-6), (400e9, 5e-6)),
}


def ring_s(size: float, ranks: int, bandwidth: float, latency_s: float) -> float:
    return 2 * (ranks - 1) / ranks * size / bandwidth + 2 * (ranks - 1) * latency_s


def hierarchical_s(size: float, fabric: str) -> float:
    inside, between = FABRICS[fabric]
    return ring_s(size, GPUS, *inside) + ring_s(size, HOSTS, *between)


def test_the_table_of_times_follows_from_the_formulas() -> None:
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in DOCUMENT.read_text().splitlines()
        if re.match(r"\| [\w-]+, [\d.]+ M", line)
    ]
    assert len(rows) == 3
    for network, kind, *times in rows:
        millions = float(re.findall(r", ([\d.]+) M", network)[0])
        for number, size in enumerate((millions * 4e6, millions * 2e6)):
            assert kind.split(" / ")[number] == f"{size / 1e6:.0f}"
            for fabric, cell in zip(FABRICS, times, strict=True):
                assert cell.split(" / ")[number] == f"{1e3 * hierarchical_s(size, fabric):.3g}", (
                    network,
                    fabric,
                )
    text = DOCUMENT.read_text()
    flat_ms = 1e3 * ring_s(25.6e6 * 4, HOSTS * GPUS, *FABRICS["InfiniBand HDR, NVLink 3"][1])
    assert f"{flat_ms:.3g} ms" in text
