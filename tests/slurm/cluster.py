"""A real Slurm on this machine: every host has its own network, PID, UTS, mount and IPC namespaces.

The hosts (a controller and the nodes) share a bridge in the controller's namespace: this machine's network does not
change, and several clusters may run at the same time. Killing a host's first process kills all other processes of the
host at once, like a power failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests import launching

PROGRAMS = (
    "slurmctld",
    "slurmd",
    "munged",
    "sbatch",
    "srun",
    "squeue",
    "scontrol",
    "sinfo",
    "unshare",
    "nsenter",
    "ip",
)
FREEZER = Path("/sys/fs/cgroup/freezer")  # Slurm tracks a job's processes in cgroups
_TIMEOUT_S = 30
_COMMAND_TIMEOUT_S = 120

_SLURM_CONF = """
ClusterName={tag}
SlurmctldHost={controller}({network}.1)
SlurmUser=root
SlurmctldPort=6817
SlurmdPort=6818
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until the credential of its last start has expired.
AuthInfo=socket={home}/munge.socket,cred_expire=10
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
ProctrackType=proctrack/cgroup
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=10
SlurmdTimeout=15
MinJobAge=3600
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5,requeue_delay=1
NodeName={nodes} CPUs=8 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
"""


def obstacle() -> str | None:
    """Return the reason why a cluster cannot be started here, or None."""
    if os.geteuid() != 0:
        return "a Slurm cluster in namespaces needs root"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        packages = "slurmctld slurmd slurm-client munge iproute2"
        return f"{', '.join(missing)} not found: apt-get install -y --no-install-recommends {packages}"
    if not (FREEZER / "release_agent").exists():
        return f"Slurm's cgroup/v1 plugin needs the freezer mounted at {FREEZER}"
    probe = subprocess.run(["unshare", "--net", "--pid", "--fork", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces here: {probe.stderr.strip()}" if probe.returncode else None


def wait_for(what: str, done: Callable[[], object], timeout_s: float = _TIMEOUT_S, every_s: float = 0.25) -> None:
    """Wait until ``done()`` is true."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(every_s)


class Host:
    """One machine: namespaces, a name, an address, and the processes inside."""

    def __init__(self, name: str, address: str, hosts_file: Path) -> None:
        self.name, self.address = name, address
        boot = (
            f"hostname {name} && mount --bind {hosts_file} /etc/hosts && ip link set lo up && echo up && "
            "{ sleep infinity & wait; }"  # bash, as the first process, reaps processes that daemons leave
        )
        namespaces = ["--net", "--pid", "--uts", "--mount", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        self._unshare = subprocess.Popen(
            ["unshare", *namespaces, "bash", "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._unshare.stdout is not None
        if self._unshare.stdout.readline() != "up\n":
            raise RuntimeError(f"host {name} did not come up")
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children")
        self.first_process = int(children.read_text().split()[0])

    def command(self, words: Sequence[str], *namespaces: str, cwd: Path | None = None) -> list[str]:
        """Return the command line that runs ``words`` on this host."""
        chosen = namespaces or ("--net", "--pid", "--uts", "--mount", "--ipc")
        return ["nsenter", f"--target={self.first_process}", *chosen, f"--wd={cwd or Path.cwd()}", "--", *words]

    def run(self, *words: str) -> str:
        """Run a command to its end and return its output."""
        result = subprocess.run(self.command(words), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        assert result.returncode == 0, f"{self.name}: {words}: {result.stderr}"
        return result.stdout

    def kill(self) -> None:
        """Kill all processes of the host."""
        os.kill(self.first_process, 9)
        self._unshare.communicate(timeout=_TIMEOUT_S)


class Cluster:
    """slurmctld, munged and two nodes with slurmd."""

    def __init__(self, home: Path) -> None:
        self.home, self.work = home, home / "work"
        self.tag = f"fv{os.getpid()}"
        self.network = "10.209.0"
        self.node_names = [f"{self.tag}n1", f"{self.tag}n2"]
        self.hosts: dict[str, Host] = {}
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._cables = 0
        self._write_configuration()

    def _write_configuration(self) -> None:
        controller = f"{self.tag}c"
        addresses = {name: f"{self.network}.{i}" for i, name in enumerate([controller, *self.node_names], start=1)}
        hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
        (self.home / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        (self.home / "state").mkdir()
        self.work.mkdir()
        (self.home / "munge.key").write_bytes(os.urandom(1024))
        (self.home / "munge.key").chmod(0o400)
        settings = {"tag": self.tag, "controller": controller, "network": self.network, "home": self.home}
        nodes = f"{self.tag}n[1-2]"
        (self.home / "slurm.conf").write_text(_SLURM_CONF.format(nodes=nodes, **settings))
        (self.home / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self._addresses, self._controller = addresses, controller

    @property
    def controller(self) -> Host:
        """The host of slurmctld, where jobs are submitted."""
        return self.hosts[self._controller]

    def environment(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of the cluster's users; one thread per process, so that results are bit-equal."""
        return {
            **launching.environment(),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHON": sys.executable,
            "PROCESSES": "1",
            "SLURM_CONF": str(self.home / "slurm.conf"),
            **(variables or {}),
        }

    def start(self) -> None:
        """Start the controller and the nodes, and wait until the nodes are idle."""
        self._boot(self._controller)
        self.controller.run("ip", "link", "add", "bridge", "type", "bridge")
        self.controller.run("ip", "addr", "add", f"{self.controller.address}/24", "dev", "bridge")
        self.controller.run("ip", "link", "set", "bridge", "up")
        paths = {name: self.home / f"munge.{name}" for name in ("socket", "key", "log", "pid", "seed")}
        self._daemon(
            self.controller,
            "munged",
            "--foreground",
            "--force",  # the folder of a test may be accessible to all
            f"--socket={paths['socket']}",
            f"--key-file={paths['key']}",
            f"--log-file={paths['log']}",
            f"--pid-file={paths['pid']}",
            f"--seed-file={paths['seed']}",
        )
        wait_for("munged", paths["socket"].exists)
        self._daemon(self.controller, "slurmctld", "-D")
        for name in self.node_names:
            self.power_on(name)
        wait_for("nodes are idle", lambda: self.node_states() == ["idle", "idle"])

    def stop(self) -> None:
        """Kill every host and remove its files and interfaces from this machine."""
        for host in self.hosts.values():
            host.kill()
        for daemon in self._daemons:
            daemon.wait(timeout=_TIMEOUT_S)
        for name in self.node_names:
            for group in sorted(Path("/sys/fs/cgroup").glob(f"*/slurm_{name}/**/"), reverse=True):
                group.rmdir()

    def power_on(self, name: str) -> None:
        """Start a node, connect it and start its slurmd."""
        node = self._boot(name)
        self._cables += 1
        cable = f"cable{self._cables}"
        plug = f"ip link add {cable} type veth peer name eth0 netns {node.first_process}".split()
        # Only the network namespace is entered: process IDs are this machine's.
        subprocess.run(self.controller.command(plug, "--net"), check=True, timeout=_TIMEOUT_S)
        self.controller.run("ip", "link", "set", cable, "master", "bridge", "up")
        node.run("ip", "addr", "add", f"{node.address}/24", "dev", "eth0")
        node.run("ip", "link", "set", "eth0", "up")
        self._daemon(node, "slurmd", "-D")

    def cut_power(self, name: str) -> None:
        """Kill a node's first process, and so the node."""
        self.hosts.pop(name).kill()

    def run(self, *words: str, check: bool = True, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user in the folder ``work`` of the controller's host."""
        result = subprocess.run(
            self.controller.command(words, cwd=self.work),
            env=self.environment(variables),
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
        assert not check or result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
        return result

    def trainers(self, job_id: str) -> dict[int, dict[str, str]]:
        """Return the environments of a job's training processes, by their process IDs on this machine."""
        marks = {"SLURM_JOB_ID": job_id, "SLURM_CLUSTER_NAME": self.tag}
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                variables = (entry / "environ").read_text(errors="replace").split("\0")
            except OSError:  # it has just ended, or belongs to another user or a sandbox
                continue
            environment = dict(variable.split("=", 1) for variable in variables if "=" in variable)
            if "LOCAL_RANK" in environment and marks.items() <= environment.items():
                found[int(entry.name)] = environment
        return found

    def node_states(self) -> list[str]:
        """The states of the nodes according to Slurm: idle, alloc, down ..."""
        return self.run("sinfo", "--noheader", "--Node", "--format=%T", check=False).stdout.split()

    def job(self, job_id: str) -> dict[str, str]:
        """Return the fields of ``scontrol show job``."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job_id).stdout
        return dict(word.split("=", 1) for word in shown.split() if "=" in word)

    def _boot(self, name: str) -> Host:
        self.hosts[name] = Host(name, self._addresses[name], self.home / "hosts")
        return self.hosts[name]

    def _daemon(self, host: Host, *words: str) -> None:
        with (self.home / f"{words[0]}-{host.name}.out").open("ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    host.command(words), env=self.environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            )
