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

    First those not marked slow, on every core; `fast` ends there, and so does a failure: what is wrong is told in
    minutes. Then the slow ones, one at a time: guests and builds want the cores for themselves. `only` is pytest's -k.
    In this process, so that a Ctrl-C lets the tests clean up.
    """
    ensure_apt_packages(APT_PACKAGES, Progress())  # quick tests sign with gpg too
    # A job in the background of a script starts with SIGINT ignored, and would hand that down to every program that
    # a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(CHECKOUT)
    parts = [["-m", "not slow", "-n", "auto"], *([] if fast else [["-m", "slow", "-p", "no:xdist"]])]
    chosen = ["-k", only] if only else []
    ended = []
    for part in parts:
        ended.append(int(pytest.main([*part, *chosen])))
        if ended[-1] not in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            return ended[-1]
    return min(ended)  # a part may have no such test, as long as the other has
