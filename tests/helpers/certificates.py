"""Certificates for tests of TLS."""

from __future__ import annotations

import datetime
from pathlib import Path


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
