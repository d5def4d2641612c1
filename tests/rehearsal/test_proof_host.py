"""A proof's instance in the local cloud: what proof_host asks of AWS, the local EC2 has to understand."""

from datetime import timedelta

import pytest

from pipeline.proof_host import ProofRequest, proof_host
from pipeline.sweep import inventory
from pipeline.target import ProofSeconds
from tests.doubles import START
from tests.rehearsal.conftest import Rehearsal


@pytest.mark.parametrize("public", [True, False])
def test_it_gets_the_address_that_the_catalog_wants_and_leaves_nothing(rehearsal: Rehearsal, public: bool) -> None:
    request = ProofRequest(
        bake_id="20261123T120000Z-cd18",
        image_id=rehearsal.base_image,
        owner="sre",
        expires_at=START + timedelta(hours=3),
        instance_type="c6i.large",
        kernel_line="5.10",
        agent_version="1.17.1",
        patience=ProofSeconds(boot=60, coverage=60, every=1),
        associate_public_ip=public,
    )
    with proof_host(rehearsal.session, request, clock=rehearsal.clock, warn=pytest.fail) as instance_id:
        instance = rehearsal.instance(instance_id)
        assert instance["State"]["Name"] == "running"
        assert ("PublicIpAddress" in instance) == public
    assert rehearsal.state(instance_id) == "terminated"
    assert inventory(rehearsal.session, say=pytest.fail) == []
