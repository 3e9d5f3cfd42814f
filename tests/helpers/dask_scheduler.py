"""A Dask scheduler and workers as `dask-ssh` starts them: processes of their own, found by an address."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.helpers.serving_stack import wait_until

ROOT = Path(__file__).parents[2]


@contextmanager
def dask_scheduler(
    folder: Path, workers: int, *, host: str = "127.0.0.1", options: Sequence[str] = ()
) -> Iterator[str]:
    """A scheduler and so many workers on loopback.

    Args:
        folder: For its files.
        workers: How many.
        host: The loopback address, as Dask writes it.
        options: More for the command of each worker, as `--name=value`; those of TLS and the protocol go to
            the scheduler too.

    Returns:
        The scheduler's address.
    """
    found = folder / "scheduler.json"
    both = [one for one in options if one.startswith(("--tls-", "--protocol"))]
    started = [
        _start(folder, "scheduler", "--host", host, "--port", "0", "--no-dashboard", *both, found=found)
    ]
    try:
        wait_until(lambda: found.exists() and found.read_text().strip().endswith("}"))
        for number in range(workers):
            more = ("--host", host, "--nworkers", "1", "--no-dashboard", "--name", f"w{number}")
            started.append(_start(folder, "worker", *more, *options, found=found))
        wait_until(lambda: (folder / "dask.log").read_text().count("Registered to") >= workers)
        yield str(json.loads(found.read_text())["address"])
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _start(folder: Path, what: str, *options: str, found: Path) -> subprocess.Popen[bytes]:
    with (folder / "dask.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", what, *options, "--scheduler-file", str(found)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )


def certificate_files(folder: Path, name: str) -> dict[str, str]:
    """An authority, and a certificate that it signed for everybody, as files; by Dask's names of them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def named(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    now = datetime.datetime.now(datetime.UTC)
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("authority", "everybody")}
    files = {}
    for who, authority in (("authority", True), ("everybody", False)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(named(f"{name} {who}"))
            .issuer_name(named(f"{name} authority"))
            .public_key(keys[who].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .sign(keys["authority"], hashes.SHA256())
        )
        path = folder / f"{name}-{who}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[who] = str(path)
    key = folder / f"{name}-key.pem"
    key.write_bytes(
        keys["everybody"].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return {
        "tls_ca_file": files["authority"],
        "tls_client_cert": files["everybody"],
        "tls_client_key": str(key),
    }
