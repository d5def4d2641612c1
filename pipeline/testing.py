"""`./run test`: in, what to leave out; out, pytest's exit code after it has printed its own report."""

import os
import signal

import pytest

from pipeline.paths import CHECKOUT
from pipeline.progress import Progress
from pipeline.rehearsal.guest_root import APT_PACKAGES
from pipeline.tools import ensure_apt_packages


def run_tests(*, fast: bool, only: str = "") -> int:
    """Run the tests of the checkout and return pytest's exit code, 0 when all is well.

    `fast` leaves out those marked slow and uses every core. The whole run is serial: its guests and builds want the
    cores for themselves. `only` is pytest's -k. In this process, so that a Ctrl-C lets the tests clean up.
    """
    ensure_apt_packages(APT_PACKAGES, Progress())  # quick tests sign with gpg too
    # A job in the background of a script starts with SIGINT ignored, and would hand that down to every program that
    # a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(CHECKOUT)
    args = ["-m", "not slow", "-n", "auto"] if fast else ["-p", "no:xdist"]
    return int(pytest.main([*args, *(["-k", only] if only else [])]))
