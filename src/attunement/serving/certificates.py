"""Certificates for development: self-signed, for this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attunement.errors import ConfigError
from attunement.security.private_files import write_private

CERTIFICATE, KEY = "certificate.pem", "key.pem"


def development_certificate(folder: Path, hosts: Iterable[str] = (), days: int = 30) -> tuple[Path, Path]:
    """Writes a certificate (ECDSA P-256) for localhost and `hosts`, and its key (0600), into `folder`; their paths.

    Raises `ConfigError` for files that are there, and for a host that is none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    certificate, key_file = folder / CERTIFICATE, folder / KEY
    for path in (certificate, key_file):
        if path.exists():
            raise ConfigError(f"{path} exists already: it is not written over; name another folder with --out")
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(["localhost", "127.0.0.1", "::1", *hosts]):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            if not host or not host.isascii() or any(c.isspace() or c in "/:@" for c in host):
                raise ConfigError(f"'{host[:60]}' is no name of a host and no address") from None
            names.append(x509.DNSName(host))
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "attunement development")]), datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write_private(key_file, key.private_bytes(pem, form, serialization.NoEncryption()))
    certificate.write_bytes(built.public_bytes(pem))
    return certificate, key_file
