"""Peak memory of a table of 5 million rows and 20 columns, against loading it whole with pandas.

pytest -m benchmark tests/benchmarks/test_table_memory.py -s
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv as arrow_csv

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(3600)]

ROOT = Path(__file__).resolve().parents[2]
ROWS = 5_000_000
MOST_SHARE = 0.25

PEAK = """
import json, sys, time
from pathlib import Path

def peak_mib():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
"""

WHOLE = (
    PEAK
    + """
import pandas as pd

started = time.perf_counter()
frame = pd.read_csv(sys.argv[1])
print(json.dumps([peak_mib(), time.perf_counter() - started]))
"""
)

STREAMED = (
    PEAK
    + """
from blocks.dask_cluster import DaskCluster
from tasks.data.config import IngestConfig, PreprocessConfig, ValidateConfig
from tasks.data.ingest import ingest
from tasks.data.preparation.preprocess import preprocess
from tasks.data.storage.store import DatasetStore
from tasks.data.validation.validate import validate
from tasks.refs import Problem

if __name__ == "__main__":
    source, folder = sys.argv[1:]
    store = DatasetStore(folder)
    config = IngestConfig(source=source, name="rows", problem=Problem.TABLE_CLASSIFICATION)
    plan = PreprocessConfig()
    found = {}
    with DaskCluster().client() as client:

        def note(step, started):
            taken = time.perf_counter() - started
            found[step] = [peak_mib(), max(client.run(peak_mib).values()), taken]

        started = time.perf_counter()
        raw = ingest(config, store, client)
        note("ingest", started)
        started = time.perf_counter()
        validate(raw, store, ValidateConfig(), Path(folder) / "docs", plan, client)
        note("validate", started)
        started = time.perf_counter()
        preprocess(raw, plan, store, client)
        note("preprocess", started)
    print(json.dumps(found))
"""
)


def write_table(path: Path, rows: int) -> None:
    """Measurements, counts and words, with a gap here and there; the label is in the last column."""
    random = np.random.default_rng(0)
    colours = np.array(["red", "green", "blue", "violet", "amber"], dtype=object)
    writer: arrow_csv.CSVWriter | None = None
    for start in range(0, rows, 100_000):
        count = min(100_000, rows - start)
        columns: dict[str, np.ndarray] = {f"length_{n}": random.normal(size=count).round(6) for n in range(8)}
        columns |= {f"count_{n}": random.integers(0, 1_000, count) for n in range(4)}
        columns |= {f"share_{n}": random.random(count) for n in range(4)}
        columns["share_0"][::1_000] = np.nan
        columns |= {f"colour_{n}": colours[random.integers(0, 5, count)] for n in range(3)}
        columns["kind"] = np.where(columns["length_0"] + columns["length_1"] > 0, "yes", "no").astype(object)
        table = pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})
        if writer is None:
            options = arrow_csv.WriteOptions(quoting_style="none")
            writer = arrow_csv.CSVWriter(str(path), table.schema, write_options=options)
        writer.write_table(table)
    assert writer is not None
    writer.close()


def run(script: str, tmp_path: Path, *arguments: str) -> object:
    """What a program prints last, as JSON."""
    file = tmp_path / "job.py"
    file.write_text(script)
    done = subprocess.run(
        [sys.executable, str(file), *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_five_million_rows(tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    write_table(source, ROWS)
    whole_mib, whole_s = run(WHOLE, tmp_path, str(source))  # type: ignore[misc]
    steps = run(STREAMED, tmp_path, str(source), str(tmp_path / "store"))
    assert isinstance(steps, dict)
    print(f"\npandas.read_csv: {whole_mib:,.0f} MiB, {whole_s:.1f} s")
    for step, (flow_mib, worker_mib, seconds) in steps.items():
        print(
            f"| {step}, {ROWS:,} rows × 20 | {max(flow_mib, worker_mib) / whole_mib:.2f} × | flow "
            f"{flow_mib:.0f}, largest worker {worker_mib:.0f} MiB, {seconds:.0f} s | {MOST_SHARE} × at most |"
        )
    for step, (flow_mib, worker_mib, _) in steps.items():
        assert max(flow_mib, worker_mib) < MOST_SHARE * whole_mib, step
