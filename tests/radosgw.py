"""A real S3 server for tests: Ceph's object gateway on one node, in memory, on the loopback interface.

It checks signatures and MD5 sums, honours conditional requests and knows multi-part uploads; mocks do not. Debian has
it as ``radosgw ceph-mon ceph-osd ceph-common``; where it is not installed, tests that need it are skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")
ACCESS, SECRET = "test", "testsecret"
_CONFIG = """\
[global]
keyring = {folder}/keyring
fsid = {fsid}
mon host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
mon allow pool size one = true
mon max pg per osd = 2000
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
run dir = {folder}/run
admin socket = {folder}/run/$name.asok
pid file = {folder}/$type.pid
log file = {folder}/log/$name.log
crash dir = {folder}/crash
ms bind ipv6 = false
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd op num shards = 2
osd op num threads per shard = 1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
keyring = {folder}/keyring
"""


def missing() -> list[str]:
    """Programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def radosgw(folder: Path) -> Iterator[str]:
    """The address of a server that lives as long as the context; ``folder`` is new and short (it holds sockets)."""
    port, v1, v2 = _free_ports(3)
    for name in ("mon", "osd", "log", "run"):
        (folder / name).mkdir(parents=True)
    config, keyring = folder / "ceph.conf", folder / "keyring"
    fsid = str(uuid.uuid4())
    config.write_text(_CONFIG.format(folder=folder, fsid=fsid, port=port, v1=v1, v2=v2))
    try:
        _start(folder, config, keyring, fsid, v1, v2)
        _wait(f"http://127.0.0.1:{port}/")
        user = ["--uid=lab", "--display-name=lab", f"--access-key={ACCESS}", f"--secret-key={SECRET}"]
        _run("radosgw-admin", "-c", config, "user", "create", *user)
        yield f"http://127.0.0.1:{port}"
    finally:
        for kind in ("client", "osd", "mon"):
            with suppress(FileNotFoundError, ValueError, ProcessLookupError):
                os.kill(int((folder / f"{kind}.pid").read_text()), signal.SIGKILL)


def _start(folder: Path, config: Path, keyring: Path, fsid: str, v1: int, v2: int) -> None:
    _run("ceph-authtool", keyring, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *"]
    _run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin", *everything)
    gateway = ["--cap", "mon", "allow rwx", "--cap", "osd", "allow rwx"]
    _run("ceph-authtool", keyring, "--gen-key", "-n", "client.rgw", *gateway)
    _run("ceph-authtool", keyring, "--gen-key", "-n", "osd.0", "--cap", "mon", "allow profile osd", *everything[3:6])
    address = f"[v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]"
    _run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, folder / "monmap")
    monitor = ["ceph-mon", "-c", config, "-i", "a"]
    _run(*monitor, "--mkfs", "--monmap", folder / "monmap", "--keyring", keyring)
    _run(*monitor)
    storage = str(uuid.uuid4())
    _run("ceph", "-c", config, "osd", "new", storage)
    _run("ceph-osd", "-c", config, "-i", "0", "--mkfs", "--osd-uuid", storage)
    _run("ceph-osd", "-c", config, "-i", "0")
    _run("radosgw", "-c", config, "-n", "client.rgw")


def _run(*command: object) -> None:
    # Daemons inherit open pipes: their output goes nowhere instead.
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}"


def _wait(address: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"nothing answers at {address}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
