"""A real Slurm of four nodes on this machine, under a folder, for as long as it is wanted.

Owns its daemons (munged, slurmctld, slurmd), which nobody else on the machine sees: their ports,
sockets and files are their own, and they end with the process that started them.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

PROGRAMS = (
    *("munged", "slurmctld", "slurmd"),
    *("sbatch", "srun", "squeue", "sinfo", "scontrol", "scancel"),
)
# Blocks and jobs of two nodes; and those that want whole nodes, which nobody is to wait for.
PARTITIONS = {"short": ("node1", "node2"), "whole": ("node3", "node4")}
NODES = tuple(node for nodes in PARTITIONS.values() for node in nodes)
CORES_PER_NODE = 16
ENDED = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
# What a hang costs; nothing that happens is to be faster.
LIMIT_S = 120.0
# Each look starts a process, at the cost of what is waited for.
POLL_S = 0.25
# Jobs that are asked to end have so long, a requeued one waits so long before it starts again.
KILL_WAIT_S, CREDENTIAL_S = 2, 5

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost=localhost
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={credential_s}
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
KillWait={kill_wait_s}
ReturnToService=2
# MPICH names its shared memory by job and step: two Slurms on one machine have different jobs.
FirstJobId={first_job}
# What has become of a job is known to the last test.
MinJobAge=3600
# The cores are Slurm's idea: it must not mind how many this machine has.
SlurmdParameters=config_overrides
{nodes}
{partitions}
"""


def what_is_missing() -> str | None:
    """Why there can be no Slurm here; None if there can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid() != 0:
        return "slurmd starts jobs as root only"
    return None


class OneMachineSlurm:
    """Slurm with the partitions ``short`` (the default) and ``whole`` of two nodes each; a context.

    Parameters
    ----------
    folder : Path
        For the configuration, states and logs; a short path, since a socket lies in it.

    Attributes
    ----------
    environment : dict of str to str
        With which Slurm's commands find this one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        # Not that of one test.
        self._outside = dict(os.environ)
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> OneMachineSlurm:
        self._write_files()
        try:
            kinds = {"key-file": "key", "socket": "socket", "log-file": "log", "seed-file": "seed"}
            files = [f"--{name}={self.folder}/munge.{end}" for name, end in kinds.items()]
            pid_file = f"--pid-file={self.folder}/munge.pid"
            # --force: the folders above need not be as those of a system's daemon.
            self._start("munged", "--foreground", "--force", *files, pid_file)
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged")
            self._start("slurmctld", "-D")
            for node in NODES:
                self._start("slurmd", "-D", "-N", node, name=node)
            self._wait_for_nodes(*NODES)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def run(self, *command: str | Path) -> str:
        """The output of one of Slurm's commands, which must succeed."""
        done = self._run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(
        self, script: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> int:
        """Submit a script from its own folder; the number of the job."""
        command = ("sbatch", "--parsable", *options, str(script))
        done = self._run(*command, cwd=script.parent, environment=environment)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def jobs(self) -> dict[int, dict[str, str]]:
        """What Slurm knows of each job, also when it has ended: see :meth:`of_job`."""
        lines = self.run("scontrol", "--oneliner", "show", "job").splitlines()
        known = [_fields(line) for line in lines if "=" in line]
        return {int(job["JobId"]): job for job in known}

    def of_job(self, job: int) -> dict[str, str]:
        """What Slurm knows of a job: ``JobState``, ``ExitCode``, ``TimeLimit``, ..."""
        return _fields(self.run("scontrol", "--oneliner", "show", "job", str(job)))

    def wait_for(self, job: int, *states: str) -> dict[str, str]:
        """Wait until a job is in one of some states; what Slurm knows of it then."""
        wanted, ended = set(states), set(states) | ENDED
        self._wait(lambda: self.of_job(job)["JobState"] in ended, f"job {job}")
        found = self.of_job(job)
        assert found["JobState"] in wanted, f"{found}\n{self._logs()}"
        return found

    def end_at_next_look(self, job: int, in_s: int = 1) -> None:
        """Let a job's time be up in so many seconds; Slurm looks every half a minute.

        A limit in the job script has whole minutes, of which the shortest is too long for a test.
        """
        self.run("scontrol", "update", f"JobId={job}", f"EndTime=now+{in_s}seconds")

    def kill_node(self, node: str) -> None:
        """SIGKILL to a node's slurmd; the jobs on it go on."""
        daemon = self._daemons.pop(node)
        daemon.kill()
        daemon.wait()

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, and wait until the node takes jobs."""
        self._start("slurmd", "-D", "-N", node, name=node)
        self._wait_for_nodes(node)

    def stop(self) -> None:
        """End all jobs and daemons; none is left."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            self._run("scancel", f"--user={getpass.getuser()}")
            self._wait(lambda: not self._run("squeue", "--noheader").stdout, "no jobs", 15.0, False)
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
        for daemon in self._daemons.values():
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        # What survived its slurmd, or was started by a job that did not wait for it.
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def processes(self) -> list[psutil.Process]:
        """The running processes of this Slurm and of its jobs, as their environment says."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if ours and process.pid != os.getpid():
                    found.append(process)
        return found

    def _wait_for_nodes(self, *nodes: str) -> None:
        ready = {"idle", "mixed", "allocated"}
        show = ("sinfo", "--Node", "--noheader", "--format=%T", f"--nodes={','.join(nodes)}")

        def are_ready() -> bool:
            states = self._run(*show).stdout.split()
            return len(states) == len(nodes) and ready.issuperset(states)

        self._wait(are_ready, f"the nodes {nodes}")

    def _write_files(self) -> None:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("state", *(f"spool_{node}" for node in NODES)):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(1024))
        ports = iter(_free_ports(1 + len(NODES)))
        controller_port = next(ports)
        nodes = "\n".join(
            f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={next(ports)}"
            f" CPUs={CORES_PER_NODE} RealMemory=1000"
            for node in NODES
        )
        # LLN: two blocks are on two nodes.
        partitions = "\n".join(
            f"PartitionName={name} Nodes={','.join(names)} LLN=YES MaxTime=INFINITE"
            f" Default={'YES' if name == 'short' else 'NO'}"
            for name, names in PARTITIONS.items()
        )
        text = CONFIGURATION.format(
            folder=folder, user=getpass.getuser(), nodes=nodes,
            controller_port=controller_port, first_job=1000 * controller_port,
            partitions=partitions, kill_wait_s=KILL_WAIT_S, credential_s=CREDENTIAL_S,
        )  # fmt: skip
        (folder / "slurm.conf").write_text(text)

    def _start(self, program: str, *options: str, name: str | None = None) -> None:
        path = _program(program)
        assert path is not None
        # Tests that are killed leave no daemon behind.
        command = ["setpriv", "--pdeathsig", "KILL", path, *options]
        log = self.folder / f"{name or program}.out"
        with log.open("ab") as stream:
            self._daemons[name or program] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
                cwd=self.folder, env={**self._outside, **self.environment}, start_new_session=True,
            )  # fmt: skip

    def _run(
        self,
        *command: str | Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S,
            env={**self._outside, **self.environment, **(environment or {})},
        )  # fmt: skip

    def _wait(
        self, there: Callable[[], bool], what: str, limit_s: float = LIMIT_S, must: bool = True
    ) -> None:
        end = time.monotonic() + limit_s
        while not there():
            if time.monotonic() > end:
                assert not must, f"waited {limit_s:g} s for {what}:\n{self._logs()}"
                return
            time.sleep(POLL_S)

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("*.out"))
        last = ["\n".join(log.read_text(errors="replace").splitlines()[-15:]) for log in logs]
        return "\n".join(f"{log}:\n{text}" for log, text in zip(logs, last, strict=True))


def _fields(line: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _program(name: str) -> str | None:
    """Daemons are where not every user's PATH leads."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def _free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
