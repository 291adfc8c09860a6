"""https on loopback: a certificate is trusted where the machine trusts it, and nowhere else."""

import datetime
import hashlib
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from avatarmill.pipeline.fetch import FetchConfig, LocalSource, fetch
from avatarmill.pipeline.types import Reason, Reject

DATA = b"frames" * 50_000
HERE = FetchConfig(allow_networks=("127.0.0.1/32",), pause_seconds=0.01, attempts=2)


def write_certificate(path: Path) -> None:
    """A certificate of 127.0.0.1 that nobody has signed, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "films")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(secret + made.public_bytes(pem))


class Quiet(SimpleHTTPRequestHandler):
    """A folder, without a log."""

    def log_message(self, format: str, *args: object) -> None:
        return


class Server(ThreadingHTTPServer):
    """Clients that hang up during the handshake are what this is about."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        return


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "films.pem"
    write_certificate(path)
    return path


@pytest.fixture(scope="module")
def url(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A film on an https server."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "a.mp4").write_bytes(DATA)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}/a.mp4"
        server.shutdown()
        thread.join()


def test_a_certificate_that_the_machine_trusts(
    url: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    found = fetch(url, HERE, tmp_path)
    assert isinstance(found, LocalSource), found
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(DATA).hexdigest(), len(DATA))


def test_a_certificate_that_nobody_signed(url: str, tmp_path: Path) -> None:
    found = fetch(url, HERE, tmp_path)
    assert isinstance(found, Reject) and found.reason is Reason.UNREACHABLE
    assert "self-signed certificate" in found.evidence and not list(tmp_path.iterdir())


def test_a_certificate_of_another_host(
    url: str, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    found = fetch(url.replace("127.0.0.1", "localhost"), _anywhere(), tmp_path)
    assert isinstance(found, Reject) and found.reason is Reason.UNREACHABLE
    assert "localhost" in found.evidence


def _anywhere() -> FetchConfig:
    """The name may resolve to either loopback."""
    return FetchConfig(allow_networks=("127.0.0.1/32", "::1/128"), pause_seconds=0.01, attempts=2)
