"""The figures of the bench, as a person reads them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from pipeline import bench
from pipeline.bake import VARIABLES
from pipeline.bench import Pair, report
from pipeline.errors import Interrupted
from pipeline.progress import Progress
from pipeline.signals import as_interrupted
from tests.test_flow import NO_TOOLS, Place, planned_for


def test_the_report_names_each_round_and_both_ratios() -> None:
    pairs = [Pair(ours=210, bare=200), Pair(ours=205, bare=205)]
    assert report(pairs, written=121 * 2**20, installed=110 * 2**20) == (
        "round 1: ours 3 min 30 s, bare packer build 3 min 20 s, ratio 1.05\n"
        "round 2: ours 3 min 25 s, bare packer build 3 min 25 s, ratio 1.00\n"
        "bake (without its proof) over bare packer build: 1.02\n"
        "image's disk 121 MiB over 110 MiB installed: 1.10"
    )


PACKER = f"""#!{sys.executable}
import os, pathlib, signal, sys
def stop(*_):
    pathlib.Path(sys.argv[2].removeprefix("-var-file=")).with_name("undone").touch()
    sys.exit(1)
signal.signal(signal.SIGINT, stop)
os.kill(os.getppid(), signal.SIGTERM)
signal.pause()
"""


def test_an_interrupt_lets_the_bare_packer_undo_its_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packer = tmp_path / "packer"
    packer.write_text(PACKER)
    packer.chmod(0o755)
    (tmp_path / VARIABLES).write_text(json.dumps({"bake_id": "20261123T100000Z-cd18", "image_name": "i"}))
    monkeypatch.setattr(bench, "stage", lambda *_, **__: None)
    tools = replace(NO_TOOLS, packer=packer, plugin_folder=tmp_path, settings_folder=tmp_path)
    with mock_aws(), as_interrupted(), pytest.raises(Interrupted):
        place = Place(session=boto3.Session(region_name="eu-central-1"), records=tmp_path, locks=tmp_path)
        bench._bare_build(tmp_path, planned_for(place), tools, {}, Progress())
    assert (tmp_path / "bare" / "undone").exists()
