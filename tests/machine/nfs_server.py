"""The kernel's own NFS server, on loopback."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ADDRESS = "127.0.0.1"
_THREADS = 4
_SILENCE = [["-i", "lo", "-p", "tcp", end, "2049", "-j", "DROP"] for end in ("--dport", "--sport")]
_SECONDS = 10
"""The shortest time the kernel takes for leases and for the grace after a start."""


class NfsServer:
    """Serves `folder` as /data by NFSv4, which asks rpcbind for nothing; the kernel waits long where there is none. What is exported is a
    file system in memory, and the root of what clients see: the machine's own root, an overlay, can be neither."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.folder = place / "data"

    @property
    def volume(self) -> dict[str, Any]:
        """What a pod's volume or a persistent volume says of it."""
        return {"server": ADDRESS, "path": "/data"}

    def start(self) -> None:
        _run("rpc.nfsd", "--no-nfs-version", "3", "--no-udp", "--grace-time", str(_SECONDS), "--lease-time", str(_SECONDS), str(_THREADS))
        Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")  # nobody has anything to reclaim

    def stop(self) -> None:
        """No thread serves any more and nothing listens: what is sent to it is refused."""
        _run("rpc.nfsd", "0")

    def vanish(self) -> None:
        """As if its plug was pulled: what is sent to it is never answered."""
        for each in _SILENCE:
            _run("iptables", "-I", "INPUT", *each)

    def reappear(self) -> None:
        for each in _SILENCE:
            _run("iptables", "-D", "INPUT", *each)

    def __enter__(self) -> Self:
        _run("modprobe", "-a", "nfsd", "iptable_filter", "xt_tcpudp")
        if not Path("/proc/fs/nfsd/threads").exists():
            _run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
        self._place.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "export", str(self._place))
        self.folder.mkdir()
        self._daemons = [subprocess.Popen(each) for each in (("rpcbind", "-f"), ("rpc.mountd", "--foreground", "--no-nfs-version", "3"))]
        _run("exportfs", "-i", "-o", "rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0", f"{ADDRESS}:{self._place}")
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        _run("exportfs", "-ua")
        for each in self._daemons:
            each.terminate()
            each.wait()
        _run("umount", "-l", str(self._place))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
