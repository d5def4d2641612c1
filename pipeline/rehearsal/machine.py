"""One virtual machine as a process of ours: QEMU's command line, its life, and the agent inside it.

In:  a `MachineSpec` (which disk, which sockets, which loopback address).
Out: a `Machine`, which can be asked to power down, reset, die, take a live snapshot and say when it ended.

Everything above this module knows only the protocols `Machine` and `GuestAgent`, so that states can be tested
without QEMU. QEMU's options are described in its "Invocation" manual, the control socket in the "QMP Reference
Manual", the agent's commands in the "Guest Agent Protocol Reference".
"""

import base64
import contextlib
import itertools
import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipeline.errors import MachineError

MEMORY_MIB = 768
TRANSLATION_MIB = 256  # translated code kept without KVM; QEMU's own default is as large as a guest
PROCESSORS = 2
SSH_PORT = 2222
DISK_NODE = "root"
Accelerator = Literal["kvm", "tcg"]

# A boot sector for the probe: mov al,16; out 0xf4,al; hlt; jmp back to hlt.
_PROBE_CODE = bytes.fromhex("b010e6f4f4ebfd")
_PROBE_EXIT_CODE = (0x10 << 1) | 1  # what isa-debug-exit makes of the value written
_PROBE_TIMEOUT_SECONDS = 15


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """What a machine is made of. Paths of sockets must be shorter than 108 bytes (unix(7))."""

    name: str
    folder: Path  # of the instance: console.log, qemu.log and qemu.pid are written here
    disk: Path
    mac: str
    address: str | None  # loopback address whose port 2222 leads to the guest's sshd
    identity: str  # a UUID that starts with ec2: how a guest recognises EC2
    instance_type: str
    control_socket: Path
    agent_socket: Path
    forwards: Mapping[str, Path]  # "169.254.169.254:80" -> unix socket that answers there


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a machine ended: `code` is QEMU's exit code, negative for a signal; `detail` its last words."""

    code: int
    detail: str = ""

    @property
    def orderly(self) -> bool:
        return self.code == 0


@dataclass(frozen=True, kw_only=True)
class ExecResult:
    """What a command in the guest left behind; `exit_code` is negative when a signal ended it."""

    exit_code: int
    stdout: str
    stderr: str


class GuestAgent(Protocol):
    def answers(self) -> bool:
        """Whether the agent in the guest is there, within two seconds."""

    def call(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """One command of the guest agent; OSError when nobody answers or it refuses."""


class Machine(Protocol):
    @property
    def agent(self) -> GuestAgent: ...

    @property
    def pid(self) -> int | None: ...

    @property
    def resident_bytes(self) -> int: ...

    def start(self, ended: Callable[[Exit], None]) -> None:
        """Start it; `ended` is called once, from another thread. MachineError when it does not come up."""

    def power_down(self) -> None:
        """Press the power button; a guest that is not ready for it ignores it."""

    def reset(self) -> None: ...

    def kill(self) -> None: ...

    def snapshot_onto(self, overlay: Path) -> None:
        """From now on write to `overlay`, whose backing file is the disk used so far."""


class Launcher:
    """Starts processes that die with us, from one thread that lives as long as we do.

    The kernel sends the parent-death signal when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG), so a
    request's thread must never be the one that starts a machine.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")

    def start(self, argv: Sequence[str], log: Path, inherit: Sequence[int] = ()) -> subprocess.Popen[bytes]:
        """Start `argv`, which writes to `log` and keeps the descriptors `inherit`. OSError when it cannot."""
        return self._thread.submit(self._start, argv, log, inherit).result()

    @staticmethod
    def _start(argv: Sequence[str], log: Path, inherit: Sequence[int]) -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            return subprocess.Popen(
                ["setpriv", "--no-new-privs", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=inherit,
                start_new_session=True,
            )


def _option(text: str | Path) -> str:
    """A value inside one of QEMU's comma separated options."""
    return str(text).replace(",", ",,")


def qemu_argv(spec: MachineSpec, accelerator: Accelerator, control: int) -> list[str]:
    """The whole command line of a guest; nothing of it comes from outside but paths and ids of ours.

    `control` is the descriptor of the socket on which QEMU takes commands.
    """
    network = [
        "user",
        "id=net0",
        "net=169.254.0.0/16",
        "host=169.254.0.2",
        "dns=169.254.0.3",
        "dhcpstart=169.254.10.15",
        "restrict=on",
    ]
    if spec.address:
        network.append(f"hostfwd=tcp:{spec.address}:{SSH_PORT}-:22")
    network += [f"guestfwd=tcp:{where}-cmd:nc -U {_option(path)}" for where, path in sorted(spec.forwards.items())]
    return [
        "qemu-system-x86_64",
        *("-name", f"{_option(spec.name)},process=ovenproof-guest"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        # Not elevateprivileges=deny: it forbids the setsid(2) of the network's helpers (nc). setpriv covers privileges.
        *("-sandbox", "on,obsolete=deny,resourcecontrol=deny"),
        *("-machine", "pc"),
        *(("-accel", "kvm", "-cpu", "host") if accelerator == "kvm" else ()),
        *(("-accel", f"tcg,thread=multi,tb-size={TRANSLATION_MIB}", "-cpu", "max") if accelerator == "tcg" else ()),
        *("-smp", str(PROCESSORS), "-m", str(MEMORY_MIB)),
        *(
            "-blockdev",
            f"driver=qcow2,node-name={DISK_NODE},discard=unmap,detect-zeroes=unmap,"
            "cache.direct=off,cache.no-flush=on,"
            f"file.driver=file,file.filename={_option(spec.disk)},file.discard=unmap,"
            "file.cache.direct=off,file.cache.no-flush=on",
        ),
        *("-device", f"virtio-blk-pci,drive={DISK_NODE}"),
        *("-netdev", ",".join(network)),
        *("-device", f"virtio-net-pci,netdev=net0,mac={spec.mac},romfile="),
        *("-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,path={_option(spec.agent_socket)},server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
        *("-chardev", f"file,id=console,path={_option(spec.folder / 'console.log')},append=on"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=control,fd={control},server=on,wait=off", "-mon", "chardev=control,mode=control"),
        *(
            "-smbios",
            f"type=1,manufacturer=Amazon EC2,product={spec.instance_type},serial={spec.identity},uuid={spec.identity}",
        ),
        *("-pidfile", str(spec.folder / "qemu.pid")),
    ]


def probe_accelerator() -> Accelerator:
    """KVM only if a guest really runs under it: the device may be there and refuse, or hang."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    with tempfile.NamedTemporaryFile(prefix="ovenproof-probe-") as disk:
        disk.write(_PROBE_CODE.ljust(510, b"\0") + b"\x55\xaa")
        disk.flush()
        try:
            done = subprocess.run(
                [
                    "qemu-system-x86_64",
                    *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "16"),
                    *("-accel", "kvm", "-cpu", "host"),
                    *("-drive", f"file={_option(disk.name)},format=raw,if=ide,readonly=off,snapshot=on"),
                    *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
                ],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_TIMEOUT_SECONDS,
                check=False,
            )
        except (subprocess.TimeoutExpired, FileNotFoundError):  # a missing QEMU is told when a guest is started
            return "tcg"
    return "kvm" if done.returncode == _PROBE_EXIT_CODE else "tcg"


def _lines(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as stream:
        yield from stream
    raise ConnectionError("the other side closed the connection")


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen()
        yield listener


@contextlib.contextmanager
def _connected(path: Path, timeout_seconds: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_seconds)
        connection.connect(str(path))
        yield connection


class ControlSocket:
    """QMP: one command at a time, a connection each, because a guest lives longer than most commands."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def call(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """The command's return value. OSError when QEMU is gone or refuses."""
        with self._lock, _connected(self._path, 30) as connection:
            answers = (json.loads(line) for line in _lines(connection))
            next(answers)  # the greeting
            for message in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments or {}}):
                connection.sendall(json.dumps(message).encode() + b"\n")
                answer = next(answer for answer in answers if "event" not in answer)
                if "error" in answer:
                    raise OSError(f"QEMU refused {command}: {answer['error']['desc']}")
            return answer["return"]


class QemuGuestAgent:
    """The agent in the guest, over its virtio-serial port."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._ids = itertools.count(1)

    def answers(self) -> bool:
        try:
            self.call("guest-ping", timeout_seconds=2)
        except OSError:
            return False
        return True

    def call(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout_seconds: float = 20) -> Any:
        with self._lock, _connected(self._path, timeout_seconds) as connection:
            lines = _lines(connection)
            # Answers to questions that timed out earlier may still be in the pipe: skip to our own mark.
            mark = next(self._ids)
            self._send(connection, "guest-sync-delimited", {"id": mark}, prefix=b"\xff")
            for line in lines:
                with contextlib.suppress(ValueError):
                    if json.loads(line.rpartition(b"\xff")[2]).get("return") == mark:
                        break
            self._send(connection, command, arguments or {})
            answer = json.loads(next(lines))
            if "error" in answer:
                raise OSError(f"the guest agent refused {command}: {answer['error']['desc']}")
            return answer["return"]

    @staticmethod
    def _send(connection: socket.socket, command: str, arguments: Mapping[str, Any], prefix: bytes = b"") -> None:
        message = {"execute": command, "arguments": arguments} if arguments else {"execute": command}
        connection.sendall(prefix + json.dumps(message).encode() + b"\n")


class QemuMachine:
    """A guest as a QEMU process; `start` may be called again after it ended."""

    def __init__(self, spec: MachineSpec, *, launcher: Launcher, accelerator: Accelerator) -> None:
        self._spec = spec
        self._launcher = launcher
        self._accelerator = accelerator
        self._process: subprocess.Popen[bytes] | None = None
        self._control = ControlSocket(spec.control_socket)
        self._node = DISK_NODE  # the node the guest writes to; moves with each live snapshot
        self.agent: GuestAgent = QemuGuestAgent(spec.agent_socket)

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.returncode is None else None

    @property
    def resident_bytes(self) -> int:
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except OSError:
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def start(self, ended: Callable[[Exit], None]) -> None:
        log = self._spec.folder / "qemu.log"
        try:
            # Listening before QEMU is there: who asks at once waits for its greeting and is not turned away.
            self._spec.control_socket.unlink(missing_ok=True)
            with _listening(self._spec.control_socket) as control:
                argv = qemu_argv(self._spec, self._accelerator, control.fileno())
                process = self._launcher.start(argv, log, [control.fileno()])
        except OSError as error:
            raise MachineError(
                "a guest could not be started",
                found=str(error),
                remedy="install qemu-system-x86 and util-linux (setpriv)",
            ) from error
        self._process, self._node = process, DISK_NODE
        threading.Thread(target=self._watch, args=(process, log, ended), daemon=True).start()

    @staticmethod
    def _watch(process: subprocess.Popen[bytes], log: Path, ended: Callable[[Exit], None]) -> None:
        code = process.wait()
        words = log.read_text(errors="replace").strip().splitlines()[-3:] if log.exists() else []
        ended(Exit(code=code, detail="" if code == 0 else " / ".join(words)))

    def power_down(self) -> None:
        with contextlib.suppress(OSError):
            self._control.call("system_powerdown")

    def reset(self) -> None:
        self._control.call("system_reset")

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def snapshot_onto(self, overlay: Path) -> None:
        node = f"{self._node}-next"
        disk = {"driver": "file", "filename": str(overlay), "discard": "unmap"}
        cache = {"direct": False, "no-flush": True}
        self._control.call(
            "blockdev-add",
            {
                "driver": "qcow2",
                "node-name": node,
                "backing": None,
                "cache": cache,
                "discard": "unmap",
                "detect-zeroes": "unmap",
                "file": {**disk, "cache": cache},
            },
        )
        self._control.call("blockdev-snapshot", {"node": self._node, "overlay": node})
        self._node = node


def run_in_guest(
    agent: GuestAgent,
    argv: Sequence[str],
    *,
    poll_seconds: float,
    sleep: Callable[[float], None],
) -> ExecResult:
    """Run a command to its end inside the guest. OSError when the agent stops answering."""
    started = agent.call("guest-exec", {"path": argv[0], "arg": list(argv[1:]), "capture-output": True})
    while not (status := agent.call("guest-exec-status", {"pid": started["pid"]}))["exited"]:
        sleep(poll_seconds)

    def text(key: str) -> str:
        return base64.b64decode(status.get(key, "")).decode(errors="replace")

    return ExecResult(
        exit_code=status["exitcode"] if "exitcode" in status else -status.get("signal", 1),
        stdout=text("out-data"),
        stderr=text("err-data"),
    )
