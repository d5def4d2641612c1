"""The catalog as it is shipped, and what a catalog with mistakes is told."""

from datetime import date
from pathlib import Path
from textwrap import dedent

import pytest

from pipeline.catalog import CATALOG, Catalog, load_catalog
from pipeline.errors import CatalogError, UsageError

SHIPPED = CATALOG.read_text(encoding="utf-8")


def changed(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """A copy of the shipped catalog in which each of some texts, there exactly once, stands replaced."""
    text = SHIPPED
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the catalog"
        text = text.replace(old, new)
    path = tmp_path / "catalog.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def place(path: Path, text: str) -> str:
    """file:line:column of the first character of a text that stands once in a file."""
    before = path.read_text(encoding="utf-8").partition(text)[0]
    return f"{path}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_shipped_catalog_holds_both_lines_in_four_flavours_each(catalog: Catalog) -> None:
    assert [selection.id for selection in catalog.selections()] == [
        "ecs-al2-kernel-5.10/x86_64",
        "ecs-al2-kernel-5.10/arm64",
        "ecs-al2-kernel-5.10/gpu",
        "ecs-al2-kernel-5.10/inf",
        "ecs-al2023/x86_64",
        "ecs-al2023/arm64",
        "ecs-al2023/gpu",
        "ecs-al2023/neuron",
    ]


def test_values_that_yaml_likes_to_change_stay_what_they_are(catalog: Catalog) -> None:
    assert catalog.variants["ecs-al2-kernel-5.10"].kernel_line == "5.10"
    assert catalog.variants["ecs-al2-kernel-5.10"].end_of_support == date(2026, 6, 30)
    assert catalog.agent.accounts["me-central-1"] == "000014521398"
    assert catalog.agent.key_fingerprint == "747891EF537813344456760306C906A7093FF49D"


def test_one_selection(catalog: Catalog) -> None:
    selection = catalog.select("ecs-al2-kernel-5.10", "arm64")

    assert (selection.id, selection.slug) == ("ecs-al2-kernel-5.10/arm64", "ecs-al2-kernel-5.10-arm64")
    assert selection.flavour.architecture == "arm64"


@pytest.mark.parametrize(
    ("variant", "flavour", "what", "expected"),
    [
        ("ecs-al3", "x86_64", "there is no variant ecs-al3", "one of ecs-al2-kernel-5.10, ecs-al2023"),
        ("ecs-al2023", "inf", "ecs-al2023 has no flavour inf", "one of x86_64, arm64, gpu, neuron"),
    ],
)
def test_selecting_what_is_not_there_lists_what_is(
    catalog: Catalog, variant: str, flavour: str, what: str, expected: str
) -> None:
    with pytest.raises(UsageError) as caught:
        catalog.select(variant, flavour)

    assert (caught.value.what, caught.value.expected) == (what, expected)


def test_agent_address_of_a_region(catalog: Catalog) -> None:
    assert catalog.agent.artifact_url("ap-southeast-2") == (
        "https://005257825471-ap-southeast-2-guardduty-agent-rpm-artifacts.s3.ap-southeast-2.amazonaws.com"
    )


def test_a_region_without_a_known_account_is_refused_and_not_guessed(catalog: Catalog) -> None:
    with pytest.raises(CatalogError) as caught:
        catalog.agent.artifact_url("ap-southeast-5")

    assert caught.value.what == "no account is known that publishes the GuardDuty agent's RPM in ap-southeast-5"
    assert caught.value.remedy == (
        "bake in a region of the list and copy the image, or add the account once AWS documents it; the account of "
        "AWS's container images is another one"
    )


CASES = [
    pytest.param(
        ("    os: al2\n", "    os: al3\n"),
        "al3",
        "variants > ecs-al2-kernel-5.10 > os: found 'al3'; did you mean 'al2023'? allowed: al2, al2023",
        id="a value that is not on the list",
    ),
    pytest.param(
        ("  version: 1.17.1\n", "  versoin: 1.17.1\n  version: 1.17.1\n"),
        "versoin",
        "agent > versoin: unknown key 'versoin'; did you mean 'version'? allowed: accounts, key_fingerprint, version",
        id="a misspelt key",
    ),
    pytest.param(
        ("  version: 1.17.1\n", "  version: 1.17\n"),
        "1.17",
        "agent > version: found the number 1.17; a text is wanted: put it in quotes",
        id="a version that YAML takes for a number",
    ),
    pytest.param(
        ('kernel_line: "5.10"', "kernel_line: 5.10"),
        "5.10\n    end_of_support",
        "variants > ecs-al2-kernel-5.10 > kernel_line: found the number 5.1; a text is wanted: put it in quotes; "
        "allowed: 5.10, 6.1",
        id="a kernel line that YAML shortens",
    ),
    pytest.param(
        ('"000014521398"', "000014521398"),
        "000014521398",
        "agent > accounts > me-central-1: found the number 14521398; a text is wanted: put it in quotes",
        id="an account that loses its zeros",
    ),
    pytest.param(
        ("7478 91EF 5378 1334 4456  7603 06C9 06A7 093F F49D", "093F F49D"),
        "093F F49D",
        "agent > key_fingerprint: found '093F F49D'; a whole key fingerprint is 40 capital hexadecimal digits, spaces "
        "between them allowed",
        id="a short key id",
    ),
    pytest.param(
        ("  accounts: []\n", "  accounts: all\n"),
        "all\n",
        "sharing > accounts: found 'all'; a list is wanted",
        id="shared with everybody, as a word",
    ),
    pytest.param(
        ("  accounts: []\n", "  accounts: [all]\n"),
        "all]",
        "sharing > accounts > item 1: found 'all'; string should match pattern '^\\d{12}$'",
        id="shared with everybody, in a list",
    ),
    pytest.param(
        ("ssh_source_cidrs: [127.0.0.0/8]", "ssh_source_cidrs: [0.0.0.0/0]"),
        "0.0.0.0/0",
        "targets > local > ssh_source_cidrs > item 1: found 0.0.0.0/0, which is half the internet or more; /8 or "
        "narrower is wanted",
        id="ssh from everywhere",
    ),
    pytest.param(
        ("  base_max_age_days: 45\n", "  base_max_age_days: 0\n"),
        "0\n  deprecate_after_days",
        "policies > base_max_age_days: found 0; input should be greater than 0",
        id="a number out of range",
    ),
    pytest.param(
        ("kms_key: account-default", "kms_key: none"),
        "none",
        "encryption > kms_key: found 'none'; allowed: account-default, alias/<name>, or the ARN of a KMS key or alias",
        id="no encryption",
    ),
    pytest.param(
        ("  deprecate_after_days: 180\n", ""),
        "policies:",
        "policies: the key 'deprecate_after_days' is missing",
        id="a missing key",
    ),
    pytest.param(
        ("  local:\n", "  lokal:\n"),
        "lokal",
        "targets > lokal: found 'lokal'; did you mean 'local'? allowed: local, aws",
        id="a key that is not on the list",
    ),
]


@pytest.mark.parametrize(("change", "at", "text"), CASES)
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], at: str, text: str
) -> None:
    path = changed(tmp_path, change)

    with pytest.raises(CatalogError) as caught:
        load_catalog(path)

    assert caught.value.what == f"{path} has 1 error"
    assert caught.value.found == f"{place(path, at)} {text}"


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = changed(
        tmp_path,
        ("  builder_max_lifetime_minutes: 90\n", "  builder_max_lifetime_minutes: 5\n"),
        ("default_region: eu-central-1", "default_region: Frankfurt"),
        ("    os: al2\n", "    os: al3\n"),
    )

    with pytest.raises(CatalogError) as caught:
        load_catalog(path)

    assert caught.value.what == f"{path} has 3 errors"
    assert [line.partition(" ")[2].partition(":")[0] for line in caught.value.found.splitlines()] == [
        "default_region",
        "variants > ecs-al2-kernel-5.10 > os",
        "policies > builder_max_lifetime_minutes",
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            [("kernel-5.10-gpu-hvm-*-x86_64-ebs", "gpu-hvm-*-x86_64-ebs")],
            "variants > ecs-al2-kernel-5.10: the flavour gpu expects a base called amzn2-ami-ecs-gpu-hvm-*-x86_64-ebs, "
            "which does not name kernel-5.10",
        ),
        (
            [("  accounts: []\n", '  accounts: ["111122223333"]\n')],
            "the document: sharing names accounts, but encryption > kms_key is account-default, a key that EC2 lets "
            "nobody else use; name a customer managed key",
        ),
        (
            [("ssh_source_cidrs: []", "ssh_source_cidrs: [10.0.0.0/8]")],
            "targets > aws: ssh_source_cidrs must be empty with session_manager, which needs no inbound rule",
        ),
        (
            [
                (
                    "  waivers: []\n",
                    "  waivers:\n  - {policy: base-max-age, variant: ecs-al1, reason: why, until: 2027-01-31}\n",
                )
            ],
            "the document: policies > waivers > item 1 is for 'ecs-al1', which is no variant; allowed: "
            "ecs-al2-kernel-5.10, ecs-al2023",
        ),
    ],
)
def test_parts_that_contradict_each_other(tmp_path: Path, changes: list[tuple[str, str]], text: str) -> None:
    path = changed(tmp_path, *changes)

    with pytest.raises(CatalogError) as caught:
        load_catalog(path)

    assert caught.value.found.partition(" ")[2] == text


@pytest.mark.parametrize(
    ("text", "found", "where"),
    [
        ("a: 1\na: 2\n", 'found duplicate key "a" with value "2" (original value: "1")', "2:1"),
        ("a: [1\n", "expected ',' or ']', but got '<stream end>'", "2:1"),
    ],
)
def test_what_is_no_yaml_at_all(tmp_path: Path, text: str, found: str, where: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(CatalogError) as caught:
        load_catalog(path)

    assert caught.value.what == f"{path} is not readable as YAML"
    assert (caught.value.found, caught.value.where) == (found, f"{path}:{where}")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be read"):
        load_catalog(tmp_path / "catalog.yaml")


@pytest.fixture
def waived(tmp_path: Path) -> Catalog:
    waivers = dedent("""\
        waivers:
          - policy: base-max-age
            variant: ecs-al2-kernel-5.10
            reason: no newer base before the freeze ends
            until: 2027-01-31
    """)
    return load_catalog(changed(tmp_path, ("  waivers: []\n", "  " + waivers.replace("\n", "\n  ").rstrip(" "))))


def test_a_waiver_holds_for_its_variant_to_the_end_of_its_last_day(waived: Catalog) -> None:
    def reason(variant: str, today: date) -> str | None:
        waiver = waived.policies.waiver("base-max-age", variant, today)
        return waiver.reason if waiver else None

    assert reason("ecs-al2-kernel-5.10", date(2027, 1, 31)) == "no newer base before the freeze ends"
    assert reason("ecs-al2-kernel-5.10", date(2027, 2, 1)) is None
    assert reason("ecs-al2023", date(2027, 1, 31)) is None


def test_a_waiver_that_ran_out_is_an_error(waived: Catalog) -> None:
    waived.check_waivers(date(2027, 1, 31))

    with pytest.raises(CatalogError) as caught:
        waived.check_waivers(date(2027, 2, 1))

    assert str(caught.value) == (
        "a waiver has run out\n"
        "  expected: a last day of 2027-02-01 or later\n"
        "  found:    base-max-age for ecs-al2-kernel-5.10, until 2027-01-31: no newer base before the freeze ends\n"
        "  where:    images/catalog.yaml, policies > waivers\n"
        "  do:       remove the waiver, or renew it with a new date and the reason why it is still needed"
    )


def test_a_key_is_good_in_its_own_region_and_an_alias_in_each(tmp_path: Path) -> None:
    arn = "arn:aws:kms:eu-central-1:111122223333:key/one"
    there = "arn:aws:kms:eu-west-1:111122223333:key/two"
    path = changed(
        tmp_path,
        ("kms_key: account-default", f"kms_key: {arn}"),
        (
            "region_keys: {}",
            f"region_keys: {{eu-west-1: '{there}', us-east-1: alias/images, us-east-2: account-default}}",
        ),
    )
    encryption = load_catalog(path).encryption
    regions = ("eu-central-1", "eu-west-1", "us-east-1", "us-east-2")
    assert [encryption.key_in(region) for region in regions] == [arn, there, "alias/images", None]
    with pytest.raises(CatalogError) as caught:
        encryption.key_in("eu-north-1")
    assert str(caught.value) == (
        "no key is known that encrypts images in eu-north-1\n"
        "  expected: a key of eu-north-1, or an alias that every region has\n"
        f"  found:    {arn}\n"
        "  where:    images/catalog.yaml, encryption > region_keys\n"
        "  do:       add `eu-north-1: <ARN of a key there>` to region_keys, or use an alias as kms_key"
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("parameter_prefix: /ovenproof/images", "parameter_prefix: /aws/images", "SSM keeps names"),
        ("parameter_prefix: /ovenproof/images", "parameter_prefix: images", "parameter_prefix"),
        ("  ways_back: 3", "  ways_back: 1", "ways_back"),
        ("  regions: []", "  regions: [europe]", "regions"),
    ],
)
def test_promotion_and_retention_have_limits(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_catalog(changed(tmp_path, (old, new)))
    assert words in str(caught.value)


def test_the_parameter_of_a_promoted_image_names_variant_and_flavour(catalog: Catalog) -> None:
    selection = catalog.select("ecs-al2-kernel-5.10", "arm64")
    assert catalog.parameter(selection) == "/ovenproof/images/ecs-al2-kernel-5.10/arm64"
