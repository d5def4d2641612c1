"""`images/catalog.yaml` as typed values: what is shipped, from which bases, under which policies.

In: the file. Out: a `Catalog`, and from it a `VariantSelection`, the one thing a bake is asked to make.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pipeline import paths
from pipeline.errors import CatalogError, UsageError
from pipeline.yaml_file import StrictModel, load_yaml

CATALOG = paths.IMAGES / "catalog.yaml"

Architecture = Literal["x86_64", "arm64"]
OsLine = Literal["al2", "al2023"]
KernelLine = Literal["5.10", "6.1"]
TargetName = Literal["local", "aws"]
WaivablePolicy = Literal["base-max-age"]

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
VariantName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
FlavourName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_]*$")]


def _narrow(text: str) -> str:
    network = ipaddress.ip_network(text)  # its ValueError says what is wrong with the text
    if network.prefixlen < 8:
        raise ValueError(f"found {text}, which is half the internet or more; /8 or narrower is wanted")
    return text


Cidr = Annotated[str, AfterValidator(_narrow)]
Positive = Annotated[int, Field(gt=0)]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]


def _forty_hex(text: str) -> str:
    plain = text.replace(" ", "")
    if not re.fullmatch(r"[0-9A-F]{40}", plain):
        raise ValueError(
            f"found {text!r}; a whole key fingerprint is 40 capital hexadecimal digits, spaces between them allowed"
        )
    return plain


Fingerprint = Annotated[str, AfterValidator(_forty_hex)]


class Agent(StrictModel):
    """The GuardDuty agent that is baked in, and whom its signature has to come from."""

    version: Annotated[str, StringConstraints(pattern=r"^\d+\.\d+\.\d+$")]
    key_fingerprint: Fingerprint
    accounts: Mapping[Region, AccountId]

    def artifact_url(self, region: str) -> str:
        """What stands before `/<version>/` in the address of AWS's package for a region.

        Raises CatalogError where no account is known; AWS's page lists them per region.
        """
        if region not in self.accounts:
            raise CatalogError(
                f"no account is known that publishes the GuardDuty agent's RPM in {region}",
                expected=f"one of {', '.join(sorted(self.accounts))}",
                where="images/catalog.yaml, agent > accounts",
                remedy="bake in a region of the list and copy the image, or add the account once AWS documents it; "
                "the account of AWS's container images is another one",
            )
        bucket = f"{self.accounts[region]}-{region}-guardduty-agent-rpm-artifacts"
        return f"https://{bucket}.s3.{region}.amazonaws.com"


class Flavour(StrictModel):
    """One published base image of a variant, and the machine that bakes on it."""

    base_parameter: Annotated[
        str, StringConstraints(pattern=r"^/aws/service/ecs/optimized-ami/[a-z0-9./-]+/recommended$")
    ]
    base_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]+\*[A-Za-z0-9._-]+$")]
    architecture: Architecture
    builder_instance_type: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$")]
    root_volume_gib: Annotated[int, Field(ge=8, le=1024)]


class Variant(StrictModel):
    """One line of what is shipped: an operating system, a kernel line, and the flavours of both."""

    os: OsLine
    kernel_line: KernelLine
    end_of_support: date
    ssh_username: Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]*$")]
    flavours: Annotated[Mapping[FlavourName, Flavour], Field(min_length=1)]

    @model_validator(mode="after")
    def _flavours_agree(self) -> Self:
        for name, flavour in self.flavours.items():
            if name in ("x86_64", "arm64") and name != flavour.architecture:
                raise ValueError(f"the flavour {name} has architecture {flavour.architecture}")
            if f"kernel-{self.kernel_line}-" not in flavour.base_name:
                raise ValueError(
                    f"the flavour {name} expects a base called {flavour.base_name}, "
                    f"which does not name kernel-{self.kernel_line}"
                )
        return self


class Polling(StrictModel):
    """How often, and how many times, Packer asks whether the image is ready."""

    delay_seconds: Positive
    max_attempts: Positive


class Target(StrictModel):
    """How Packer reaches the builder and waits for AWS, or for what stands in for AWS."""

    ssh_interface: Literal["public_ip", "private_ip", "session_manager"]
    ssh_port: Annotated[int, Field(gt=0, lt=65536)]
    ssh_timeout_minutes: Positive
    ssh_source_cidrs: tuple[Cidr, ...]
    associate_public_ip: bool
    subnet_tags: Mapping[NonEmpty, NonEmpty]
    polling: Polling

    @model_validator(mode="after")
    def _sources_fit(self) -> Self:
        if self.ssh_interface == "session_manager" and self.ssh_source_cidrs:
            raise ValueError("ssh_source_cidrs must be empty with session_manager, which needs no inbound rule")
        return self


class Sharing(StrictModel):
    """Who may launch a promoted image. "Everybody" has no spelling here, on purpose."""

    accounts: tuple[AccountId, ...]
    organizations: tuple[
        Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:organizations::\d{12}:organization/o-[a-z0-9]+$")],
        ...,
    ]
    organizational_units: tuple[
        Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:organizations::\d{12}:ou/o-[a-z0-9]+/ou-[a-z0-9-]+$")],
        ...,
    ]

    @property
    def is_empty(self) -> bool:
        """True when nobody but the owner may launch the images."""
        return not (self.accounts or self.organizations or self.organizational_units)


def _key(text: str) -> str:
    forms = (
        r"account-default",
        r"alias/[A-Za-z0-9/_-]+",
        r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:(key|alias)/[A-Za-z0-9/_-]+",
    )
    if not any(re.fullmatch(form, text) for form in forms):
        raise ValueError(f"found {text!r}; allowed: account-default, alias/<name>, or the ARN of a KMS key or alias")
    return text


class Encryption(StrictModel):
    """Which key encrypts the volumes and snapshots; that they are encrypted is no choice."""

    kms_key: Annotated[str, AfterValidator(_key)]
    region_keys: Mapping[Region, Annotated[str, AfterValidator(_key)]]

    def key_in(self, region: str) -> str | None:
        """The key's id in a region as EC2 takes it, or None for the account's default EBS key there.

        Raises CatalogError when only a key of another region is known.
        """
        key = self.region_keys.get(region, self.kms_key)
        if key == "account-default":
            return None
        if key.startswith("arn:") and key.split(":")[3] != region:
            raise CatalogError(
                f"no key is known that encrypts images in {region}",
                expected=f"a key of {region}, or an alias that every region has",
                found=key,
                where="images/catalog.yaml, encryption > region_keys",
                remedy=f"add `{region}: <ARN of a key there>` to region_keys, or use an alias as kms_key",
            )
        return key

    @property
    def kms_key_id(self) -> str | None:
        """The key's id as EC2 takes it, or None for the account's default EBS key."""
        return None if self.kms_key == "account-default" else self.kms_key


def _not_reserved(name: str) -> str:
    if name.lower().startswith(("/aws", "/ssm")):
        raise ValueError(f"found {name}; SSM keeps names that begin with aws or ssm for itself")
    return name


class Promotion(StrictModel):
    """Where a proven image goes, and which parameters name it there."""

    parameter_prefix: Annotated[str, StringConstraints(pattern=r"^(/[A-Za-z0-9_.-]+)+$"), AfterValidator(_not_reserved)]
    regions: tuple[Region, ...]


class Retention(StrictModel):
    """When an image that nothing uses is given up, step by step, and how many versions a document keeps."""

    keep_newest: Annotated[int, Field(ge=1)]
    ways_back: Annotated[int, Field(ge=2)]
    idle_days: Positive
    disable_after_days: Positive
    deregister_after_days: Positive
    max_changes_per_run: Positive
    document_versions: Positive


class Provenance(StrictModel):
    """Who signs the evidence: `own-key`, or the address of a KMS key as Packer writes it."""

    signer: Annotated[
        str,
        StringConstraints(
            pattern=r"^(own-key|awskms:///arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:(key|alias)/[A-Za-z0-9/_-]+)$"
        ),
    ]


class Waiver(StrictModel):
    """Leave to break one policy for one variant, up to and including a day."""

    policy: WaivablePolicy
    variant: VariantName
    reason: NonEmpty
    until: date


class Policies(StrictModel):
    """Limits in days and minutes, and the dated exceptions from them."""

    base_max_age_days: Positive
    deprecate_after_days: Annotated[int, Field(gt=0, le=3650)]  # EC2 takes at most ten years
    builder_max_lifetime_minutes: Annotated[int, Field(ge=10, le=24 * 60)]
    waivers: tuple[Waiver, ...]

    def waiver(self, policy: WaivablePolicy, variant: str, today: date) -> Waiver | None:
        """The waiver that lets `variant` break `policy` on that day, if there is one."""
        return next((w for w in self.waivers if (w.policy, w.variant) == (policy, variant) and today <= w.until), None)


@dataclass(frozen=True, kw_only=True)
class VariantSelection:
    """A variant in one flavour: what a bake is asked to make."""

    variant_name: str
    flavour_name: str
    variant: Variant
    flavour: Flavour

    @property
    def id(self) -> str:
        """How people and records name it, such as `ecs-al2-kernel-5.10/x86_64`."""
        return f"{self.variant_name}/{self.flavour_name}"

    @property
    def slug(self) -> str:
        """The same as a word for image and file names, such as `ecs-al2-kernel-5.10-x86_64`."""
        return f"{self.variant_name}-{self.flavour_name}"


class Catalog(StrictModel):
    """The whole file."""

    default_region: Region
    agent: Agent
    variants: Annotated[Mapping[VariantName, Variant], Field(min_length=1)]
    targets: Mapping[TargetName, Target]
    sharing: Sharing
    encryption: Encryption
    promotion: Promotion
    retention: Retention
    provenance: Provenance
    policies: Policies

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if missing := sorted({"local", "aws"} - set(self.targets)):
            raise ValueError(f"targets lacks {' and '.join(missing)}")
        for index, waiver in enumerate(self.policies.waivers):
            if waiver.variant not in self.variants:
                raise ValueError(
                    f"policies > waivers > item {index + 1} is for {waiver.variant!r}, which is no variant; "
                    f"allowed: {', '.join(self.variants)}"
                )
        if not self.sharing.is_empty and self.encryption.kms_key_id is None:
            raise ValueError(
                "sharing names accounts, but encryption > kms_key is account-default, a key that EC2 lets nobody "
                "else use; name a customer managed key"
            )
        return self

    def parameter(self, selection: VariantSelection) -> str:
        """The name of the SSM parameter that says which image of a variant and flavour is promoted."""
        return f"{self.promotion.parameter_prefix}/{selection.id}"

    def selections(self) -> tuple[VariantSelection, ...]:
        """Every variant in every flavour, in the file's order."""
        return tuple(
            VariantSelection(variant_name=name, flavour_name=flavour_name, variant=variant, flavour=flavour)
            for name, variant in self.variants.items()
            for flavour_name, flavour in variant.flavours.items()
        )

    def select(self, variant: str, flavour: str) -> VariantSelection:
        """One variant in one flavour. Raises UsageError that lists what there is."""
        for selection in self.selections():
            if (selection.variant_name, selection.flavour_name) == (variant, flavour):
                return selection
        known = variant in self.variants
        raise UsageError(
            f"{variant} has no flavour {flavour}" if known else f"there is no variant {variant}",
            expected="one of " + ", ".join(self.variants[variant].flavours if known else self.variants),
            where="images/catalog.yaml",
            remedy="name one of those, or add it to the catalog",
        )

    def check_waivers(self, today: date) -> None:
        """Raise CatalogError if a waiver has run out; a dead exception must be removed or renewed, not forgotten."""
        if over := [w for w in self.policies.waivers if w.until < today]:
            raise CatalogError(
                "a waiver has run out" if len(over) == 1 else f"{len(over)} waivers have run out",
                expected=f"a last day of {today} or later",
                found="\n".join(f"{w.policy} for {w.variant}, until {w.until}: {w.reason}" for w in over),
                where="images/catalog.yaml, policies > waivers",
                remedy="remove the waiver, or renew it with a new date and the reason why it is still needed",
            )


def load_catalog(path: Path = CATALOG) -> Catalog:
    """Read the catalog. Raises CatalogError with every fault of the file at once."""
    return load_yaml(path, Catalog)
