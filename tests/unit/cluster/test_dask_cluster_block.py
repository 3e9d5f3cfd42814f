"""The block of a Dask cluster: what it refuses, and its life cycle on real workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed.exceptions import WorkerStartTimeoutError
from pydantic import ValidationError

from blocks.dask_cluster import DaskCluster, limit_bytes
from tasks.train.ranks import launcher
from tasks.train.ranks.gang import Gang, launch
from tests.helpers import on_ranks
from tests.helpers.certificates import certificate_files
from tests.helpers.dask_clusters import DaskProcesses
from tests.helpers.serving_stack import wait_until

REFUSED = [
    ({"address": "10.0.0.5:8786"}, "does not start with tcp:// or tls:// or ucx://"),
    ({"address": "http://10.0.0.5:8786"}, "does not start with tcp:// or tls:// or ucx://"),
    ({"address": "tcp://10.0.0.5"}, "not a host and a port"),
    ({"address": "tcp://10.0.0.5:0"}, "not a host and a port"),
    ({"address": "tcp://10.0.0.5:70000"}, "Port out of range"),
    ({"address": "tcp://10.0.0.5:8786/status"}, "not a host and a port"),
    ({"address": "tcp://fd00::5:8786"}, r"IPv6 address in brackets, as in tcp://\[fd00::5\]:8786"),
    ({"address": "tcp://a:1", "tls_ca_file": "/ca.pem"}, "is for a tls:// address, and address is tcp://a:1"),
    ({"tls_client_cert": "/cert.pem"}, "is for a tls:// address, and address is empty"),
    ({"address": "tls://a:1", "tls_ca_file": "ca.pem"}, "not an absolute path"),
    ({"address": "tls://a:1", "tls_client_key": "/key.pem"}, "tls_client_cert is empty"),
    ({"memory_limit": "plenty"}, "no amount of memory; such are 4GiB, 500MB, 0.25, 0 and auto"),
    ({"memory_limit": "-1GiB"}, "no amount of memory"),
    ({"memory_limit": ""}, "no amount of memory"),
    ({"memory_limit": "8"}, "'8' is 8 bytes; name a unit, as in 4GiB"),
    ({"device_memory_limit": "1.5"}, "is 1 bytes"),
    ({"nvlink": True}, "needs ucx as protocol"),
    ({"infiniband": True}, "needs ucx as protocol"),
    ({"protocol": "ucx", "nvlink": True, "managed_memory": True}, "does not go with nvlink"),
]


@pytest.fixture
def nothing_is_left() -> Iterator[None]:
    """Of this process's children, the same are there before and after."""
    before = _children()
    yield
    wait_until(lambda: _children() <= before, timeout_s=10)


def _children() -> set[int]:
    """Dask's workers; the tracker of multiprocessing stays, as it is meant to."""
    found = set()
    for child in psutil.Process().children(recursive=True):
        try:
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(("values", "said"), REFUSED, ids=lambda one: str(one)[:60])
def test_what_cannot_be_is_refused_in_words(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        DaskCluster(**values)
    assert all(one["loc"] for one in refused.value.errors())  # the form shows it beside a field


@pytest.mark.parametrize(
    "values",
    [
        {"address": ""},
        {"address": "tcp://[fd00::5]:8786"},
        {"address": "tls://a:1", "tls_ca_file": "/ca.pem", "tls_client_cert": "/both.pem"},
        {"memory_limit": "0"},
        {"memory_limit": "0.25", "device_memory_limit": "60 GiB"},
        {"protocol": "ucx", "nvlink": True, "infiniband": True},
        {"protocol": "ucx", "nvlink": False, "managed_memory": True},
    ],
    ids=str,
)
def test_what_can_be_is_taken(values: dict[str, Any]) -> None:
    DaskCluster(**values)


def test_limits_are_read_as_dask_reads_them() -> None:
    from distributed.system import MEMORY_LIMIT
    from distributed.worker_memory import parse_memory_limit

    for text in ("0", "0.0", "0.25", "1", "128MiB", "1GB", "0 MiB", "300 MB"):
        read = parse_memory_limit(text, nthreads=1, logger=None)  # type: ignore[arg-type]
        assert limit_bytes(text, MEMORY_LIMIT) == read, text


@pytest.mark.usefixtures("nothing_is_left")
def test_workers_of_this_host_come_and_go() -> None:
    with DaskCluster(n_workers=2, memory_limit="256MiB").client() as client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        assert [one["memory_limit"] for one in workers.values()] == [256 * 2**20] * 2
        assert all(address.startswith("tcp://127.0.0.1:") for address in workers)
    with DaskCluster().rank_client(1, 0) as client:  # as many as there are ranks, without a GPU
        assert list(client.run(lambda: __import__("os").environ["CUDA_VISIBLE_DEVICES"]).values()) == [""]


@pytest.mark.usefixtures("nothing_is_left")
def test_workers_are_gone_after_an_error_in_between() -> None:
    with pytest.raises(KeyError), DaskCluster(n_workers=1).client() as client:  # noqa: PT012
        assert _children()
        raise KeyError(client.status)


@pytest.mark.usefixtures("nothing_is_left")
def test_workers_that_hang_at_their_start_are_given_up_and_removed(tmp_path: Path) -> None:
    preload = tmp_path / "hangs.py"
    preload.write_text("import time\ntime.sleep(60)\n")
    began = time.monotonic()
    with (
        dask.config.set({"distributed.worker.preload": [str(preload)]}),
        pytest.raises(TimeoutError, match="0 of 1 workers were there after 2 s"),
        DaskCluster(n_workers=1, start_timeout_s=2).client(),
    ):
        pass
    waited_s = time.monotonic() - began
    print(f"\ngiven up after {waited_s:.1f} s")
    assert waited_s < 15


@pytest.mark.usefixtures("nothing_is_left")
def test_a_cluster_that_fails_while_it_is_made_leaves_nothing() -> None:
    """As Dask-CUDA's does, where the first workers are there and another one does not start."""
    from distributed import LocalCluster

    class Failing(LocalCluster):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            assert _children()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), DaskCluster()._started(Failing, 1):
        pass


def test_a_running_scheduler_is_waited_for_until_its_workers_are_there(tmp_path: Path) -> None:
    with DaskProcesses(tmp_path, 1) as dask:
        block = DaskCluster(address=dask.address, connect_timeout_s=2)
        with block.client() as client:
            assert client.submit(sum, [1, 2]).result(10) == 3
        began = time.monotonic()
        with pytest.raises(WorkerStartTimeoutError, match="Only 1/3 workers"), block.rank_client(3, 0):
            pass
        assert 1 < time.monotonic() - began < 5
        with block.client() as client:  # which is still there: it is not ours to end
            assert client.submit(sum, [1, 2]).result(10) == 3


def test_a_scheduler_with_tls_is_reached_with_its_files_alone(tmp_path: Path) -> None:
    files, others = certificate_files(tmp_path, "ours"), certificate_files(tmp_path, "others")
    options = [
        "--protocol=tls",
        f"--tls-ca-file={files['tls_ca_file']}",
        f"--tls-cert={files['tls_client_cert']}",
        f"--tls-key={files['tls_client_key']}",
    ]
    with DaskProcesses(tmp_path, 2, options=options) as dask:
        assert dask.address.startswith("tls://")
        reach = partial(DaskCluster, address=dask.address, connect_timeout_s=3)
        with reach(**files).rank_client(2, 0) as client:
            assert client.submit(sum, [1, 2]).result(10) == 3
            for name in ("torch", "horovod"):
                met = launch(on_ranks.meet, Gang(2, launcher.get(name), threads=1), client)
                assert met["mean"] == 0.5, name
        both = tmp_path / "both.pem"
        both.write_text(
            Path(files["tls_client_cert"]).read_text() + Path(files["tls_client_key"]).read_text()
        )
        with reach(tls_ca_file=files["tls_ca_file"], tls_client_cert=str(both)).client() as client:
            assert client.submit(sum, [1, 2]).result(10) == 3
        for wrong in (others, {**files, "tls_ca_file": others["tls_ca_file"]}):
            with pytest.raises(OSError, match=r"(?i)timed out|certificate"), reach(**wrong).client():
                pass
        with pytest.raises(FileNotFoundError, match=r"away\.pem"):
            reach(**{**files, "tls_client_key": str(tmp_path / "away.pem")}).client().__enter__()
        plain = dask.address.replace("tls://", "tcp://")
        with pytest.raises(OSError), DaskCluster(address=plain, connect_timeout_s=2).client():  # noqa: PT011
            pass


def test_a_scheduler_is_reached_by_its_ipv6_address(tmp_path: Path) -> None:
    if not any(one.address == "::1" for all_of in psutil.net_if_addrs().values() for one in all_of):
        pytest.skip("this host has no IPv6 loopback address")
    with DaskProcesses(tmp_path, 2, host="[::1]") as dask:
        assert dask.address.startswith("tcp://[::1]:")
        with DaskCluster(address=dask.address).rank_client(2, 0) as client:
            for name in ("torch", "horovod"):
                met = launch(on_ranks.meet, Gang(2, launcher.get(name), threads=1), client)
                assert met["mean"] == 0.5, name
