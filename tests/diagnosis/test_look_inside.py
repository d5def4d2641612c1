"""The script that looks into hosts runs on this machine too, and says what the diagnosis reads."""

import json
import subprocess

import pytest

from pipeline.diagnosis.views import LOOK_INSIDE, Inside, read_inside


def test_a_machine_without_the_agent_says_so_in_one_line() -> None:
    done = subprocess.run(["/bin/sh", str(LOOK_INSIDE)], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    seen = read_inside(f"some noise\n{done.stdout}")
    assert seen is not None
    assert not seen.installed and seen.kernel[0].isdigit() and seen.window == 20 and seen.os
    assert set(json.loads(done.stdout)) == set(Inside.__slots__)


@pytest.mark.parametrize("output", ["", "sh: not found", '{"kernel": "5.10"}', "{broken", "[1]"])
def test_an_answer_that_says_nothing_is_no_answer(output: str) -> None:
    assert read_inside(output) is None
