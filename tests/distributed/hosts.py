"""Hosts on one machine: each has its own network, UTS, mount and process namespaces, connected by a switch."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

ADDRESSES = {"alpha": "10.213.0.1", "beta": "10.213.0.2"}


def why_not() -> str | None:
    """Return the reason why hosts cannot be created here, or None."""
    missing = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if os.geteuid() != 0:
        return "needs root to make network namespaces"
    probe = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], check=False)
    return "this machine forbids namespaces" if probe.returncode else None


class Host:
    """A host; all its processes end with the first one, so killing that one simulates a power failure."""

    def __init__(self, name: str, hosts_file: Path) -> None:
        self.name, self._hosts_file = name, hosts_file
        self.start()

    def start(self) -> None:
        """Start the host without a network."""
        self._spawned: list[subprocess.Popen[bytes]] = []
        script = (
            f"hostname {self.name}; mount --bind {self._hosts_file} /etc/hosts; ip link set lo up; echo; exec sleep 1d"
        )
        unshare = ["unshare", "--net", "--uts", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
        self._first = subprocess.Popen(
            [*unshare, "sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self._first.stdout is not None
        with self._first.stdout as ready:
            ready.readline()
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children").read_text()
        self.process = int(children.split()[0])

    def _inside(self, words: Sequence[str]) -> list[str]:
        return ["nsenter", "--target", str(self.process), "--net", "--uts", "--mount", "--pid", "--", *words]

    def run(self, *words: str) -> None:
        """Run a command and wait for its end."""
        subprocess.run(self._inside(words), check=True)

    def spawn(self, *words: str, log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a command with its output in ``log``."""
        with log.open("ab") as file:
            process = subprocess.Popen(self._inside(words), stdout=file, stderr=file, env=dict(environment))
        self._spawned.append(process)
        return process

    def cut_power(self) -> None:
        """Kill every process of the host at once; the kernel removes its network."""
        os.kill(self.process, 9)
        for process in (self._first, *self._spawned):
            process.wait(20)


class Switch:
    """A bridge in its own network namespace, which connects the hosts."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["unshare", "--net", "--kill-child", "sleep", "1d"])
        time.sleep(0.2)
        self._ip("link", "add", "switch", "type", "bridge")
        self._ip("link", "set", "switch", "up")

    def _ip(self, *words: str) -> None:
        subprocess.run(["nsenter", "--target", str(self._process.pid), "--net", "ip", *words], check=True)

    def plug_in(self, host: Host) -> None:
        """Connect a host that was just started; the connection ends with the host."""
        port = f"p{host.process}"
        self._ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(host.process))
        self._ip("link", "set", port, "master", "switch", "up")
        host.run("ip", "addr", "add", f"{ADDRESSES[host.name]}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Remove the switch."""
        self._process.kill()
        self._process.wait(20)


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[dict[str, Host], Switch]]:
    """Create hosts alpha and beta on one switch; remove them with all their processes afterwards."""
    hosts_file = folder / "hosts"
    names = "".join(f"{address} {name}\n" for name, address in ADDRESSES.items())
    # Many distributions resolve a host's own name to 127.0.1.1, and gloo then connects to itself.
    hosts_file.write_text(f"127.0.0.1 localhost\n{names}")
    with ExitStack() as stack:
        switch = Switch()
        stack.callback(switch.remove)
        hosts = {}
        for name in ADDRESSES:
            hosts[name] = Host(name, hosts_file)
            stack.callback(hosts[name].cut_power)
            switch.plug_in(hosts[name])
        yield hosts, switch
