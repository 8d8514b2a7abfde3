"""Four connections to ports on loopback that behave as sidecars do, or as what is none."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from meshgate.facts.dataplane.mtls import seen_mode
from meshgate.probe import mtls
from meshgate.probe.mtls import Target
from meshgate.probe.pace import Pace
from meshgate.probe.signing import Identity
from meshgate.probe.tls import StorageError
from meshgate.snapshot.mtls import PortProbe
from tests.support import webhook_builders as build

NOW = datetime.now(UTC)
BEGUN = NOW - timedelta(hours=1)
ROOT = build.issued("root", begins=BEGUN)
WEB = "spiffe://cluster.local/ns/shop/sa/web"
US = "spiffe://cluster.local/ns/istio-system/sa/verifier"

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
RBAC = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 19\r\n\r\nRBAC: access denied"

Handle = Callable[[socket.socket], None]
Serve = Callable[[Handle], Target]


def signed(name: str, by: build.Issued = ROOT) -> build.Issued:
    """A certificate of a workload."""
    sans = [x509.UniformResourceIdentifier(name)]
    return build.issued("workload", by, ca=False, begins=BEGUN, sans=sans)


OURS = signed(US)
IDENTITY = Identity(OURS.pem.encode(), OURS.key_pem, US)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts TCP servers that hand each connection to a function, and end with the test."""
    servers: list[socket.socket] = []

    def accept(server: socket.socket, handle: Handle) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection, handle), daemon=True).start()

    def one(connection: socket.socket, handle: Handle) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            handle(connection)

    def started(handle: Handle) -> Target:
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threading.Thread(target=accept, args=(server, handle), daemon=True).start()
        return Target("shop/web-1", "127.0.0.1", server.getsockname()[1], http=True)

    yield started
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def sidecar(
    tmp_path: Path,
    *,
    strict: bool = True,
    answer: bytes = HELLO,
    served: build.Issued | None = None,
    demands: bool = True,
    oldest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    takes: float = 0.0,
) -> Handle:
    """What Envoy does: it looks at the first bytes, and takes up what it should."""
    served = served or signed(WEB)
    files = tmp_path / "served.pem", tmp_path / "served.key", tmp_path / "root.pem"
    for file, content in zip(
        files, (served.pem.encode(), served.key_pem, ROOT.pem.encode()), strict=True
    ):
        file.write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[0], files[1])
    context.minimum_version = oldest
    if demands:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(files[2])

    def handle(connection: socket.socket) -> None:
        first = connection.recv(2048, socket.MSG_PEEK)
        if first[:1] == b"\x16" and (strict or b"istio" in first):
            time.sleep(takes)
            with context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            ) as inner:
                inner.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    inner.do_handshake()
                time.sleep(takes)  # before it looks at what the client has
                inner.settimeout(10)
                inner.do_handshake()
                if inner.recv(1000):
                    inner.sendall(answer)
        elif not strict:
            connection.recv(1000)
            connection.sendall(answer)

    return handle


def port_probe(
    target: Target, identity: Identity | None = IDENTITY, root: str = ROOT.pem
) -> PortProbe:
    (seen,) = mtls.ask([target], identity, root, NOW, 0)
    return seen


def ends(seen: PortProbe) -> tuple[str, ...]:
    """How the four ended: plain, anonymous, foreign, mesh."""
    return tuple(
        each.end if each else "-" for each in (seen.plain, seen.anonymous, seen.foreign, seen.mesh)
    )


def test_a_strict_port(serve: Serve, tmp_path: Path) -> None:
    seen = port_probe(serve(sidecar(tmp_path)))

    assert ends(seen) == ("refused", "refused", "refused", "answered")
    assert seen_mode(seen) == "STRICT"
    assert seen.mesh is not None
    assert (seen.mesh.status, seen.mesh.identity) == (200, WEB)
    assert seen.chain[0].sans == (WEB,)
    assert seen.distrust == ""


def test_a_permissive_port(serve: Serve, tmp_path: Path) -> None:
    seen = port_probe(serve(sidecar(tmp_path, strict=False)))

    assert seen_mode(seen) == "PERMISSIVE"
    assert seen.plain is not None
    assert (seen.plain.end, seen.plain.status) == ("answered", 200)
    assert seen.foreign.end == "refused"
    assert seen.chain[0].sans == (WEB,)


def test_a_port_without_a_sidecar(serve: Serve) -> None:
    def app(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(HELLO)

    seen = port_probe(serve(app))

    assert seen_mode(seen) == "DISABLE"
    assert seen.chain == ()


def test_a_port_that_is_not_http_is_asked_nothing(serve: Serve, tmp_path: Path) -> None:
    heard: list[bytes] = []
    strict = sidecar(tmp_path)

    def listening(connection: socket.socket) -> None:
        heard.append(connection.recv(2048, socket.MSG_PEEK)[:1])
        strict(connection)

    target = serve(listening)
    seen = port_probe(Target(target.pod, target.address, target.port, http=False))

    assert ends(seen) == ("-", "refused", "refused", "held")
    assert set(heard) == {b"\x16"}, "nothing but TLS handshakes"


def test_a_port_that_takes_tls_1_3_alone(serve: Serve, tmp_path: Path) -> None:
    target = serve(sidecar(tmp_path, oldest=ssl.TLSVersion.TLSv1_3))

    seen = port_probe(Target(target.pod, target.address, target.port, http=False))

    assert seen.mesh is not None
    assert (seen.mesh.end, seen.mesh.identity) == ("held", WEB)


def test_a_sidecar_that_takes_its_time_to_refuse(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtls, "HOLD", 0.05)

    seen = port_probe(serve(sidecar(tmp_path, takes=0.3)))

    assert ends(seen) == ("refused", "refused", "refused", "answered")


def test_a_port_that_lets_strangers_in(serve: Serve, tmp_path: Path) -> None:
    seen = port_probe(serve(sidecar(tmp_path, demands=False)))

    assert seen.anonymous.end == "held"
    assert (seen.foreign.end, seen.foreign.status) == ("answered", 200)


def test_a_denial_is_told_from_a_broken_mesh(serve: Serve, tmp_path: Path) -> None:
    seen = port_probe(serve(sidecar(tmp_path, answer=RBAC)))

    assert seen.mesh is not None
    assert (seen.mesh.end, seen.mesh.status, seen.mesh.denied) == ("answered", 403, True)
    own = RBAC.replace(b"RBAC: access denied", b"not for you, friend")
    assert not port_probe(serve(sidecar(tmp_path, answer=own))).mesh.denied  # type: ignore[union-attr]


def test_a_sidecar_of_another_root(serve: Serve, tmp_path: Path) -> None:
    other = build.issued("other", begins=BEGUN)

    seen = port_probe(serve(sidecar(tmp_path, served=signed(WEB, other))))

    assert "leads to none of the roots" in seen.distrust


def test_during_a_rotation_both_roots_are_good(serve: Serve, tmp_path: Path) -> None:
    both = build.issued("other", begins=BEGUN).pem + ROOT.pem

    assert port_probe(serve(sidecar(tmp_path)), root=both).distrust == ""


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]

    seen = port_probe(Target("shop/web-1", "127.0.0.1", port, http=True))

    assert ends(seen) == ("unreachable", "unreachable", "unreachable", "-")
    assert seen_mode(seen) == ""


def test_silence_is_no_refusal(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mtls, "TIMEOUT", 0.2)
    over = threading.Event()

    def wait(connection: socket.socket) -> None:
        over.wait(10)

    seen = port_probe(serve(wait))
    over.set()

    assert ends(seen) == ("silent",) * 4
    assert seen_mode(seen) == ""


def test_without_a_certificate_of_the_mesh(serve: Serve, tmp_path: Path) -> None:
    seen = port_probe(serve(sidecar(tmp_path)), identity=None)

    assert seen.mesh is None
    assert seen.chain[0].sans == (WEB,)


def test_all_ports_keep_to_one_pace() -> None:
    pace = Pace(100)
    begun = time.monotonic()
    threads = [threading.Thread(target=pace.wait) for _ in range(21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert time.monotonic() - begun >= 0.2


def test_the_key_is_in_no_file(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = serve(sidecar(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(tmp_path.iterdir())

    port_probe(target)

    assert set(tmp_path.iterdir()) == before


def test_a_system_without_a_place_for_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")

    with pytest.raises(StorageError, match="in memory alone"):
        mtls.ask([], IDENTITY, ROOT.pem, NOW, 0)


# --- answers that never end, and odd certificates -----------------------------------------------


def test_an_answer_that_comes_byte_by_byte_is_cut_off(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtls, "TIMEOUT", 0.5)
    monkeypatch.setattr(mtls, "LONGEST", 0.5)

    def drip(connection: socket.socket) -> None:
        connection.recv(2048)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    begun = time.monotonic()
    seen = port_probe(serve(drip))

    assert time.monotonic() - begun < 6
    assert seen.plain is not None
    assert seen.plain.end == "answered"


def test_a_certificate_that_breaks_the_rules_is_seen_and_not_the_sidecars(
    serve: Serve, tmp_path: Path
) -> None:
    """With a duplicate extension, reading any extension raises: that is no reason to stop."""
    (tmp_path / "odd.pem").write_text(build.duplicate_extension(OURS.key))
    (tmp_path / "odd.key").write_bytes(OURS.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "odd.pem", tmp_path / "odd.key")

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            inner.recv(100)

    seen = port_probe(serve(handle))

    assert seen.anonymous.tls
    assert seen.anonymous.identity == ""
    assert seen.chain == ()
