"""Peak memory of ingest and preprocess does not grow with the dataset: of the flow process and each worker.

pytest -m benchmark tests/benchmarks/test_image_memory.py -s
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.photographs import write_photographs

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
FEW, MANY = 2_000, 20_000
MOST_GROWTH = 1.2

JOB = """
import json, sys
from pathlib import Path
from blocks.dask_cluster import DaskCluster
from tasks.data.config import IngestConfig, PreprocessConfig
from tasks.data.ingest import ingest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore

def peak_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

source, folder = sys.argv[1:]
if __name__ == "__main__":
    store = DatasetStore(folder)
    with DaskCluster().client() as client:
        raw = ingest(IngestConfig(source=source, name="photographs"), store, client)
        preprocess(raw, PreprocessConfig(input_size_px=150), store, client)
        print(json.dumps([peak_mib(), *client.run(peak_mib).values()]))
"""


def peaks_mib(source: Path, folder: Path) -> list[float]:
    """Peak resident memory of the process that drives, and of each worker."""
    script = folder.with_suffix(".py")
    script.write_text(JOB)
    done = subprocess.run(
        [sys.executable, str(script), str(source), str(folder)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder.parent)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peaks: list[float] = json.loads(done.stdout.splitlines()[-1])
    return peaks


def test_ten_times_the_images(tmp_path: Path) -> None:
    found = {}
    for count in (FEW, MANY):
        source = tmp_path / f"photographs-{count}"
        write_photographs(source, count)
        driver, *workers = peaks_mib(source, tmp_path / f"store-{count}")
        found[count] = (driver, max(workers))
        shutil.rmtree(source)
    for place, what in enumerate(("the flow process", "the largest worker")):
        few, many = found[FEW][place], found[MANY][place]
        print(
            f"\n| {what}, {MANY:,} images against {FEW:,} | {many / few:.2f} × | "
            f"{few:.0f} and {many:.0f} MiB | {MOST_GROWTH} × at most |"
        )
        assert many <= MOST_GROWTH * few, what
