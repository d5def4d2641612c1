"""QEMU's command line, and what QEMU itself does with it. No guest system is needed: an empty disk will do."""

import socket
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from pipeline.rehearsal.machine import (
    Exit,
    Launcher,
    MachineSpec,
    QemuGuestAgent,
    QemuMachine,
    probe_accelerator,
    qemu_argv,
    run_in_guest,
)
from pipeline.rehearsal.store import make_overlay, virtual_bytes
from tests.rehearsal.fake_machine import FakeAgent

MIB = 1024**2


def a_spec(folder: Path, *, address: str | None = "127.9.9.1") -> MachineSpec:
    return MachineSpec(
        name="i-1",
        folder=folder,
        disk=folder / "disk.qcow2",
        mac="02:00:00:00:00:01",
        address=address,
        identity="ec2e1916-9099-7caf-fd21-012345abcdef",
        instance_type="t3.small",
        control_socket=folder / "qmp",
        agent_socket=folder / "qga",
        forwards={"169.254.169.254:80": Path("/run/imds"), "169.254.0.10:80": Path("/run/files")},
    )


class Ended:
    """Takes what a machine tells at its end, each time that it does."""

    def __init__(self) -> None:
        self._how: list[Exit] = []
        self._over = threading.Event()

    def __call__(self, how: Exit) -> None:
        self._how.append(how)
        self._over.set()

    def wait(self) -> list[Exit]:
        assert self._over.wait(20)
        return self._how


def option(argv: list[str], name: str) -> str:
    return argv[argv.index(name) + 1]


def test_a_guest_reaches_its_services_and_nothing_else() -> None:
    assert option(qemu_argv(a_spec(Path("/s")), "tcg", 7), "-netdev") == (
        "user,id=net0,net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.10.15,restrict=on,"
        "hostfwd=tcp:127.9.9.1:2222-:22,"
        "guestfwd=tcp:169.254.0.10:80-cmd:nc -U /run/files,guestfwd=tcp:169.254.169.254:80-cmd:nc -U /run/imds"
    )


def test_without_an_address_nothing_listens_for_the_guest() -> None:
    assert "hostfwd" not in option(qemu_argv(a_spec(Path("/s"), address=None), "tcg", 7), "-netdev")


def test_a_guest_knows_ec2_by_its_firmware() -> None:
    assert option(qemu_argv(a_spec(Path("/s")), "tcg", 7), "-smbios") == (
        "type=1,manufacturer=Amazon EC2,product=t3.small,"
        "serial=ec2e1916-9099-7caf-fd21-012345abcdef,uuid=ec2e1916-9099-7caf-fd21-012345abcdef"
    )


def test_a_comma_in_a_path_stays_in_the_path() -> None:
    words = [word for word in qemu_argv(a_spec(Path("/a,b")), "tcg", 7) if "console.log" in word]
    assert words == ["file,id=console,path=/a,,b/console.log,append=on"]


@pytest.mark.parametrize(("accelerator", "words"), [("kvm", "kvm"), ("tcg", "tcg,thread=multi,tb-size=256")])
def test_accelerators(accelerator: str, words: str) -> None:
    assert option(qemu_argv(a_spec(Path("/s")), "kvm" if accelerator == "kvm" else "tcg", 7), "-accel") == words


def test_a_command_in_the_guest_ends_with_its_output() -> None:
    result = run_in_guest(FakeAgent(exits_with=3, prints="said"), ["/bin/x"], poll_seconds=1, sleep=lambda _: None)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "said", "")


def test_an_agent_s_late_answers_are_skipped(runtime: Path) -> None:
    """An answer to a question that timed out comes first; the one asked now must not be taken for it."""
    path = runtime / "qga"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def guest() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rwb") as stream:
            stream.readline()
            stream.write(b'{"return": {"late": true}}\n\xff{"return": 1}\n')
            stream.flush()
            stream.readline()
            stream.write(b'{"return": {"late": false}}\n')
            stream.flush()

    thread = threading.Thread(target=guest)
    thread.start()
    assert QemuGuestAgent(path).call("guest-info") == {"late": False}
    thread.join()
    listener.close()


def test_an_agent_that_is_not_there_does_not_answer(runtime: Path) -> None:
    assert not QemuGuestAgent(runtime / "nobody").answers()


@pytest.mark.slow
def test_a_machine_that_cannot_start_says_why_and_takes_no_command(runtime: Path) -> None:
    spec = a_spec(runtime, address=None)  # its disk is not there
    ended = Ended()
    machine = QemuMachine(spec, launcher=Launcher(), accelerator="tcg")
    machine.start(ended)
    with pytest.raises(OSError):  # refused or reset, as far as QEMU came
        machine.reset()
    how = ended.wait()
    assert how[0].code == 1
    assert "No such file or directory" in how[0].detail


@pytest.mark.slow
def test_a_machine_starts_is_snapshotted_while_it_runs_and_ends(runtime: Path) -> None:
    base, spec = runtime / "base.qcow2", a_spec(runtime, address=None)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "64M"], check=True)
    make_overlay(spec.disk, base, size_bytes=64 * MIB)
    ended = Ended()
    machine = QemuMachine(spec, launcher=Launcher(), accelerator=probe_accelerator())
    machine.start(ended)
    machine.reset()  # at once: QEMU takes a while until it listens
    with tempfile.TemporaryDirectory(dir=runtime) as images:
        for number in (1, 2):
            final, overlay = Path(images) / f"{number}.qcow2", runtime / "next.qcow2"
            make_overlay(overlay, final, size_bytes=64 * MIB, backing_exists=False)
            machine.snapshot_onto(overlay)
            spec.disk.rename(final)
            overlay.rename(spec.disk)
        machine.kill()
        assert [exit_.code for exit_ in ended.wait()] == [-9]
        assert virtual_bytes(spec.disk) == 64 * MIB
        check = subprocess.run(["qemu-img", "check", "-q", str(Path(images) / "2.qcow2")], check=False)
        assert check.returncode == 0
