"""When a bake's things expire: never while a legitimate bake still needs them."""

from datetime import timedelta

from pipeline.catalog import load_catalog
from pipeline.lifetime import expires_at, proof_seconds
from pipeline.render import render, template_context
from pipeline.target import AwsTarget
from tests.doubles import START


def test_a_bake_that_needs_all_of_its_time_has_not_expired() -> None:
    catalog = load_catalog()
    polling, patience = catalog.targets["aws"].polling, AwsTarget.proof_seconds
    expiry = expires_at(START, policies=catalog.policies, polling=polling, patience=patience)
    proof_begins = START + timedelta(
        minutes=catalog.policies.builder_max_lifetime_minutes, seconds=polling.delay_seconds * polling.max_attempts
    )
    assert expiry > proof_begins + timedelta(seconds=proof_seconds(patience))
    assert proof_seconds(patience) > patience.boot + patience.coverage
    assert expiry - START < timedelta(hours=5), "what a killed bake leaves costs money until then"


def test_the_builder_itself_lives_no_longer_than_the_catalog_says() -> None:
    catalog = load_catalog()
    for selection in catalog.selections():
        text = render(template_context(catalog, selection, "aws"))
        assert f"{{ minutes = {catalog.policies.builder_max_lifetime_minutes} }}" in text
