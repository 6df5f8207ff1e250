"""The VPNs that are measured: how each is set up between two namespaces, started, and which processes it is.

All run in the same two namespaces at once, idle but for the one that is measured, with inner networks of their own. AES-256-GCM,
but for WireGuard, which has ChaCha20-Poly1305 only.
"""

import datetime
import hashlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
from abc import ABC, abstractmethod
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import NameOID

import pqvpn
from lab.namespaces import Lab, LabError, Link
from lab.nodes import Node, introduce, make_node
from lab.waiting import wait_for

OUTER = ("10.0.0.1", "10.0.0.2")
CACHE = pathlib.Path(__file__).resolve().parent.parent / ".cache"
WIREGUARD_MODULE = "golang.zx2c4.com/wireguard"
OTHERS_MTU = 1420  # WireGuard's default on a path of 1500; OpenVPN has none of its own that fits


class UnavailableError(Exception):
    """The contender cannot be had on this machine; the text says why."""


class Contender(ABC):
    """One VPN between the two namespaces of `link`. `near` and `far` are the inner addresses."""

    name = ""
    network = 0

    def __init__(self, lab: Lab, link: Link) -> None:
        self.lab = lab
        self.ends = (link.a, link.b)
        self.near, self.far = f"10.9.{self.network}.1", f"10.9.{self.network}.2"
        self.folder = lab.folder / self.name
        self._processes: tuple[list[subprocess.Popen[Any]], list[subprocess.Popen[Any]]] = ([], [])

    @abstractmethod
    def version(self) -> str:
        """What exactly is measured."""

    @abstractmethod
    def prepare(self) -> None:
        """Make keys and configuration, once. Raises UnavailableError."""

    @abstractmethod
    def start_far(self) -> None:
        """Start the far end, and return when it is ready to be called."""

    @abstractmethod
    def start_near(self) -> None:
        """Start the near end, without waiting longer than it itself needs waiting on."""

    def stop(self) -> None:
        """Stop both ends."""
        processes = [*self._processes[0], *self._processes[1]]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes = ([], [])

    def pids(self) -> tuple[list[int], list[int]]:
        """The processes of the near and of the far end."""
        near, far = ([process.pid for process in processes] for processes in self._processes)
        return near, far

    def start_parts(self) -> dict[str, float]:
        """The parts of the start in seconds, if the contender tells them."""
        return {}

    def discarded(self) -> int:
        """Datagrams that the far end has discarded so far, if the contender tells."""
        return 0

    def _popen(self, end: int, arguments: list[str]) -> subprocess.Popen[Any]:
        self.folder.mkdir(exist_ok=True)
        with open(self.folder / f"log-{end}", "ab") as log:
            process = self.ends[end].popen(arguments, stdout=log, stderr=log)
        self._processes[end].append(process)
        return process


class Pqvpn(Contender):
    """This project, by its command line, as configured by default."""

    name = "pqvpn"
    network = 1

    def version(self) -> str:
        return f"pqvpn {pqvpn.__version__}"

    def prepare(self) -> None:
        self.nodes: list[Node] = [
            make_node(self.lab, namespace, name, [f"{address}/24"])
            for namespace, name, address in zip(self.ends, ("alpha", "beta"), (self.near, self.far), strict=True)
        ]
        introduce(self.nodes[0], self.nodes[1], *OUTER)

    def start_far(self) -> None:
        self.nodes[1].up()

    def start_near(self) -> None:
        self.nodes[0].start()

    def stop(self) -> None:
        for node in self.nodes:
            node.down()

    def pids(self) -> tuple[list[int], list[int]]:
        return self.nodes[0].pids(), self.nodes[1].pids()

    def discarded(self) -> int:
        return sum(self.nodes[1].drops().values())

    def start_parts(self) -> dict[str, float]:
        node = self.nodes[0]
        # Packets may pass before the supervisor has told control about its last part.
        return wait_for("all parts", lambda: (told := node.status()["node"]["start_seconds"]).get("control") and told)


class WireguardGo(Contender):
    """wireguard-go, built from its Go module; in a mount namespace with a /run of its own, so that no root is needed."""

    name = "wireguard-go"
    network = 2
    _port = 7001

    def version(self) -> str:
        told = subprocess.run(["go", "version", "-m", str(self._binary)], capture_output=True, text=True, check=False)
        found = re.search(rf"^\s*mod\s+{re.escape(WIREGUARD_MODULE)}\s+(\S+)", told.stdout, re.MULTILINE)
        return f"wireguard-go {found[1] if found else 'of unknown version'}"

    def prepare(self) -> None:
        self._binary = CACHE / "bin" / "wireguard"
        if not self._binary.exists():
            self._build()
        self._keys = [x25519.X25519PrivateKey.generate() for _ in range(2)]

    def _build(self) -> None:
        if shutil.which("go") is None:
            raise UnavailableError("wireguard-go is built with Go, which is not installed")
        print("Building wireguard-go from its Go module...", flush=True)
        built = subprocess.run(
            ["go", "install", f"{WIREGUARD_MODULE}@latest"],
            env={**os.environ, "GOBIN": str(CACHE / "bin")},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if built.returncode != 0:
            raise UnavailableError(f"wireguard-go could not be built: {built.stderr.strip()[-500:]}")

    def start_far(self) -> None:
        self._start(1)

    def start_near(self) -> None:
        self._start(0)

    def _start(self, end: int) -> None:
        private_run = 'mount -t tmpfs tmpfs /run && exec "$0" -f wg0'
        process = self._popen(end, ["unshare", "--mount", "sh", "-c", private_run, str(self._binary)])
        place = pathlib.Path(f"/proc/{process.pid}/root/run/wireguard/wg0.sock")
        wait_for("wireguard-go's socket", place.exists, interval=0.005)
        self._configure(place, end)
        self.ends[end].set_mtu("wg0", OTHERS_MTU)
        self.ends[end].add_address("wg0", f"{(self.near, self.far)[end]}/24")
        self.ends[end].up("wg0")

    def _configure(self, place: pathlib.Path, end: int) -> None:
        private = self._keys[end].private_bytes_raw().hex()
        public = self._keys[1 - end].public_key().public_bytes_raw().hex()
        request = (
            f"set=1\nprivate_key={private}\nlisten_port={self._port}\npublic_key={public}\n"
            f"endpoint={OUTER[1 - end]}:{self._port}\nallowed_ip=10.9.{self.network}.0/24\n\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(5)
            control.connect(str(place))
            control.sendall(request.encode())
            answer = control.recv(4096)
        if not answer.startswith(b"errno=0\n"):
            raise LabError(f"wireguard-go refused its configuration: {answer!r}")


class OpenVpn(Contender):
    """OpenVPN in user space (no kernel offload), point to point by certificates' fingerprints."""

    name = "openvpn"
    network = 3
    _port = 7002

    def version(self) -> str:
        told = subprocess.run(["openvpn", "--version"], capture_output=True, text=True, check=False).stdout
        return " ".join(told.split()[:2])

    def prepare(self) -> None:
        if shutil.which("openvpn") is None:
            raise UnavailableError("OpenVPN is not installed")
        self.folder.mkdir()
        self._prints = [_certificate(self.folder, str(end)) for end in range(2)]

    def start_far(self) -> None:
        process = self._start(1)
        log = self.folder / "log-1"
        wait_for("OpenVPN to listen", lambda: process.poll() is None and "UDPv4 link remote" in log.read_text())

    def start_near(self) -> None:
        self._start(0)

    def _start(self, end: int) -> subprocess.Popen[Any]:
        addresses = (self.near, self.far)
        role = ["--tls-client"] if end == 0 else ["--tls-server", "--dh", "none"]
        options = (
            f"--dev tun-ov --dev-type tun --proto udp4 --local {OUTER[end]} --port {self._port}"
            f" --remote {OUTER[1 - end]} {self._port} --ifconfig {addresses[end]} {addresses[1 - end]}"
            f" --cert {self.folder}/{end}.crt --key {self.folder}/{end}.key --peer-fingerprint {self._prints[1 - end]}"
            f" --data-ciphers AES-256-GCM --disable-dco --tun-mtu {OTHERS_MTU} --mssfix 0"
            " --sndbuf 4000000 --rcvbuf 4000000 --txqueuelen 1000 --verb 3"
        )
        return self._popen(end, ["openvpn", *options.split(), *role])


def _certificate(folder: pathlib.Path, name: str) -> str:
    """Write NAME.key and NAME.crt, self-signed; returns the fingerprint (SHA-256) as OpenVPN writes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = folder / f"{name}.key"
    private.touch(0o600)
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(pem))
    digest = hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()
    return ":".join(f"{byte:02X}" for byte in digest)


ALL: tuple[type[Contender], ...] = (Pqvpn, WireguardGo, OpenVpn)
