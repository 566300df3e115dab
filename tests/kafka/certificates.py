"""A certificate authority of a test's own: what a broker and its clients show each other over TLS."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = datetime.timedelta(days=2)


class Authority:
    """Signs certificates, and keeps all files as PEM in `folder`; keys are PKCS #8, as Kafka wants them."""

    def __init__(self, folder: Path, name: str = "quietcount test authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False),  # signs keys and lists
                critical=True,
            )
            .sign(self._key, hashes.SHA256())
        )
        self.file = folder / "authority.pem"
        self.file.write_bytes(_pem(self._certificate))

    def __getstate__(self) -> tuple[Path, Path, bytes]:
        """Its files and its key: another process of the tests may sign as well."""
        return self.folder, self.file, _private(self._key, serialization.NoEncryption())

    def __setstate__(self, state: tuple[Path, Path, bytes]) -> None:
        self.folder, self.file, private = state
        key = serialization.load_pem_private_key(private, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key
        self._certificate = x509.load_pem_x509_certificate(self.file.read_bytes())
        self._name = self._certificate.subject

    def issue(self, name: str, *hosts: str, expired: bool = False) -> Issued:
        """Sign a certificate with the common name `name`; with `hosts`, addresses or names, for a server."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = self._builder(subject, key, expired=expired).add_extension(
            x509.ExtendedKeyUsage([usage]), critical=False
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(each) for each in hosts]), False)
        return Issued(self.folder, name, builder.sign(self._key, hashes.SHA256()), key)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
    ) -> x509.CertificateBuilder:
        start = datetime.datetime.now(datetime.UTC) - _LIFE
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + (_LIFE / 2 if expired else 2 * _LIFE))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(own, critical=False)
        )


class Issued:
    """A certificate and its key, as the files that a client or a server is configured with."""

    def __init__(self, folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate_file = folder / f"{name}.pem"
        self.key_file = folder / f"{name}.key"
        self.locked_key_file = folder / f"{name}.locked.key"
        """The same key, encrypted."""
        self.key_password_file = folder / f"{name}.key-password"
        self.bundle = folder / f"{name}.bundle.pem"
        """Key and certificate in one file: a key store of Kafka's."""
        self.key_password = "open-" + name
        self.certificate_file.write_bytes(_pem(certificate))
        plain = _private(key, serialization.NoEncryption())
        self.key_file.write_bytes(plain)
        self.locked_key_file.write_bytes(
            _private(key, serialization.BestAvailableEncryption(self.key_password.encode()))
        )
        self.key_password_file.write_text(self.key_password + "\n")
        self.bundle.write_bytes(plain + _pem(certificate))
        for secret in (self.key_file, self.locked_key_file, self.key_password_file, self.bundle):
            secret.chmod(0o600)


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
