"""Two hosts on one machine: namespaces of their own (network, mounts, host name, processes, IPC) and a link between.

A host sees its own disk, at the same path as the other one sees its own, and nothing of the other's; programs are
shared, as on a cluster. The second one lets in by ssh, over the link. Linux, as root. A host ends with the process that
made it, and all its processes, mounts and links with the host.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from admm import InputError

NEEDED = {"ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux", "mount": "util-linux"} | {
    "hostname": "hostname", "ssh": "openssh-client", "ssh-keygen": "openssh-client", "sshd": "openssh-server",
}  # fmt: skip
"""Programs, and the Debian package of each."""
NAMES, ADDRESSES = ("host-a", "host-b"), ("198.51.100.1", "198.51.100.2")
"""Addresses that are set aside for documentation (RFC 5737): nothing else answers there."""
LINK = "link0"
START_SECONDS = 10.0
SHELL_SECONDS = 4
"""Of silence after which both ends of ssh give up; without such a limit they outlive a lost link for hours."""
PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


def check_possible() -> None:
    """Raise InputError, saying what is missing, unless hosts can be made here."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # where not everybody looks
    missing = [f"{program} ({package})" for program, package in NEEDED.items() if shutil.which(program) is None]
    if missing:
        raise InputError(f"two hosts: there is no {', no '.join(missing)}; install that, as Debian's package is called")
    if os.geteuid() != 0:
        raise InputError("two hosts: namespaces with a link between them need root; run it with sudo")


class Host:
    """disk: what it sees at `root`, a path that is the same for every host."""

    def __init__(self, name: str, folder: Path, setup: str) -> None:
        self.name, self.disk, self.root = name, folder / "disks" / name, folder / "root"
        command = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self._made = subprocess.Popen([*command, "sh", "-c", setup], preexec_fn=_end_with_parent)
        self.pid = self._first_process()
        self._own: set[int] = set()

    def _first_process(self) -> int:
        children = Path(f"/proc/{self._made.pid}/task/{self._made.pid}/children")
        until = time.monotonic() + START_SECONDS
        while not (found := children.read_text().split()):
            if time.monotonic() > until or self._made.poll() is not None:
                raise InputError(f"two hosts: {self.name} could not be made; may this machine make namespaces?")
            time.sleep(0.01)
        return int(found[0])

    def command(self, words: Sequence[str], only_network: bool = False) -> list[str]:
        """What runs `words` there."""
        spaces = ["--net"] if only_network else ["--net", "--mount", "--uts", "--ipc", "--pid"]
        return ["nsenter", "--target", str(self.pid), *spaces, "--", *words]

    def wait_ready(self) -> None:
        """Until its set-up is over; what runs there now belongs to it."""
        until = time.monotonic() + START_SECONDS
        while not (self.disk / "ready").exists():
            if time.monotonic() > until or self._made.poll() is not None:
                raise InputError(f"two hosts: {self.name} did not start")
            time.sleep(0.01)
        self._own = set(self._alive())

    def processes(self) -> list[int]:
        """What runs there beside the host's own."""
        return [pid for pid in self._alive() if pid not in self._own]

    def _alive(self) -> list[int]:
        space, found = os.readlink(f"/proc/{self.pid}/ns/pid"), []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                dead = (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if os.readlink(path / "ns/pid") == space and not dead:
                    found.append(int(path.name))
        return found

    def end(self) -> None:
        self._made.kill()
        self._made.wait()


class TwoHosts:
    """Both hosts and the link, while in this context. folder: for their disks and what they need to find each other."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._stack = folder, ExitStack()
        self.remote_shell = folder / "remote_shell"

    def __enter__(self) -> TwoHosts:
        with ExitStack() as stack:
            self._write_files()
            self.a, self.b = (self._host(stack, name) for name in NAMES)
            self._join()
            for host in (self.a, self.b):
                host.wait_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _host(self, stack: ExitStack, name: str) -> Host:
        folder = self._folder
        (folder / "disks" / name).mkdir(parents=True)
        (folder / "root").mkdir(exist_ok=True)
        steps = [
            f"hostname {name}",
            "ip link set lo up",
            f"mount --bind {folder}/hosts /etc/hosts",
            f"mount --bind {folder}/disks/{name} {folder}/root",
            f"mount -t tmpfs none {folder}/disks",
            "mount -t tmpfs none /dev/shm",
            "mount -t tmpfs none /run",
            "mount -t sysfs none /sys",
            "mkdir /run/sshd",
            f"{shutil.which('sshd')} -f {folder}/sshd_config -E {folder}/root/sshd.log",
            f"touch {folder}/root/ready",
            "exec sleep infinity",
        ]
        host = Host(name, folder, "\n".join(["set -e", *steps]))
        stack.callback(host.end)
        return host

    def _write_files(self) -> None:
        """Names, keys and the program by which mpirun gets to the other host."""
        folder = self._folder
        lines = [f"{address} {name}" for address, name in zip(ADDRESSES, NAMES, strict=True)]
        (folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        for key in ("user_key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
        options = {"HostKey": "host_key", "AuthorizedKeysFile": "user_key.pub"}
        text = [f"{key} {folder / file}" for key, file in options.items()]
        text += ["UsePAM no", "StrictModes no", "PidFile none", "PermitRootLogin prohibit-password"]
        text += [f"ClientAliveInterval {SHELL_SECONDS // 2}", "ClientAliveCountMax 1"]
        (folder / "sshd_config").write_text("\n".join([*text, ""]))
        ssh = f"ssh -q -i {folder}/user_key -o BatchMode=yes -o StrictHostKeyChecking=no"
        ssh += f" -o UserKnownHostsFile=/dev/null -o ConnectTimeout={SHELL_SECONDS}"
        ssh += f" -o ServerAliveInterval={SHELL_SECONDS // 2} -o ServerAliveCountMax=1"
        self.remote_shell.write_text(f'#!/bin/sh\nexec {ssh} "$@"\n')
        self.remote_shell.chmod(0o755)

    def _join(self) -> None:
        self._ip(self.a, f"link add {LINK} type veth peer name {LINK} netns {self.b.pid}")
        for host, address in zip((self.a, self.b), ADDRESSES, strict=True):
            self._ip(host, f"address add {address}/24 dev {LINK}")
            self._ip(host, f"link set {LINK} up")

    def cut(self) -> None:
        self._ip(self.a, f"link set {LINK} down")

    def mend(self) -> None:
        self._ip(self.a, f"link set {LINK} up")

    def _ip(self, host: Host, words: str) -> None:
        subprocess.run(host.command(["ip", *words.split()], only_network=True), check=True)


def _end_with_parent() -> None:
    """Whatever becomes of this program, no host outlives it."""
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
