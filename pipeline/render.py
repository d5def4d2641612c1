"""A variant and a target in, the text of a Packer template out; and the variables of one bake, which go beside it.

The template holds what the catalog decides, so the same catalog renders to the same bytes. Whatever differs from
bake to bake (ids, times, paths, keys) is a Packer variable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal

import jinja2

from pipeline import paths, tags
from pipeline.base import Base
from pipeline.catalog import Architecture, Catalog, Policies, Target, TargetName, VariantSelection
from pipeline.errors import CatalogError
from pipeline.templating import environment, line_of
from pipeline.tools import MODULES, pinned_versions

TEMPLATE: Final = paths.IMAGES / "ecs-node.pkr.hcl.j2"

REBOOTS: Final = "20-reboot-if-kernel-changed"
"""The one script during which the connection may break."""

FACTS_AFTER: Final = "70-collect-facts"
"""The script after which facts and package databases are fetched: the next ones clean up."""


@dataclass(frozen=True, kw_only=True)
class Script:
    """One provisioning script, by its file name without `.sh`."""

    name: str
    reboots: bool


@dataclass(frozen=True, kw_only=True)
class TemplateContext:
    """Everything the template may ask for; a name that is not here stops the rendering."""

    variant: str
    slug: str
    architecture: Architecture
    kernel_line: str
    ssh_username: str
    builder_instance_type: str
    root_volume_gib: int
    builder_max_lifetime_minutes: int
    kms_key_id: str | None
    agent_version: str
    target: Target
    subnet_filters: Mapping[str, str]
    scripts: tuple[Script, ...]
    facts_after: str
    packer_version: str
    plugin_version: str


def template_context(
    catalog: Catalog, selection: VariantSelection, target: TargetName, images: Path = paths.IMAGES
) -> TemplateContext:
    """Gather what the template needs. Raises CatalogError if `images/provision` lacks a script it counts on."""
    provision = images / "provision"
    names = sorted(script.stem for script in provision.glob("*.sh"))
    if missing := sorted({REBOOTS, FACTS_AFTER} - set(names)):
        raise CatalogError(
            f"a provisioning script is missing: {', '.join(missing)}",
            expected=f"{missing[0]}.sh among the scripts",
            found=", ".join(names) or "no script at all",
            where=str(provision),
            remedy="restore the file; the template does something of its own around it",
        )
    variant, flavour, versions = selection.variant, selection.flavour, pinned_versions(MODULES / "go.mod")
    return TemplateContext(
        variant=selection.id,
        slug=selection.slug,
        architecture=flavour.architecture,
        kernel_line=variant.kernel_line,
        ssh_username=variant.ssh_username,
        builder_instance_type=flavour.builder_instance_type,
        root_volume_gib=flavour.root_volume_gib,
        builder_max_lifetime_minutes=catalog.policies.builder_max_lifetime_minutes,
        kms_key_id=catalog.encryption.kms_key_id,
        agent_version=catalog.agent.version,
        target=catalog.targets[target],
        subnet_filters={f"tag:{key}": value for key, value in sorted(catalog.targets[target].subnet_tags.items())},
        scripts=tuple(Script(name=name, reboots=name == REBOOTS) for name in names),
        facts_after=FACTS_AFTER,
        packer_version=versions["packer"],
        plugin_version=versions["packer-plugin-amazon"],
    )


def render(context: TemplateContext, template: Path = TEMPLATE) -> str:
    """Fill the template in.

    Raises CatalogError, with file and line, if the template asks for something that `TemplateContext` has not.
    """
    templates = environment(template.parent)
    templates.filters["hcl"] = hcl_literal
    try:
        return templates.get_template(template.name).render(vars(context))
    except (jinja2.TemplateSyntaxError, jinja2.UndefinedError) as error:
        raise CatalogError(
            "the Packer template cannot be rendered",
            expected="only names of pipeline.render.TemplateContext",
            found=str(error),
            where=f"{template}:{line_of(error, template)}",
            remedy="correct the template",
        ) from error


def hcl_literal(value: Any) -> str:
    """A value as HCL writes it, in which nothing is left for Packer to interpolate.

    Raises TypeError for what HCL has no literal for.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return f'"{"".join(map(_escaped, value)).replace("${", "$${").replace("%{", "%%{")}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(hcl_literal, value))}]"
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{hcl_literal(key)} = {hcl_literal(item)}' for key, item in value.items())} }}"
    raise TypeError(f"HCL has no literal for {type(value).__name__}")


def _escaped(character: str) -> str:
    named = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if character in named:
        return named[character]
    return character if character.isprintable() else f"\\U{ord(character):08x}"


@dataclass(frozen=True, kw_only=True)
class Signing:
    """Who signs provenance and SBOM: a PEM private key's path, or `awskms://` and a key's ARN."""

    mode: Literal["key", "kms"]
    signer: str


def image_name(selection: VariantSelection, bake_id: str) -> str:
    """The name of a bake's image; the bake's id makes it the only one of that name."""
    return f"ovenproof-{selection.slug}-{bake_id}"


def packer_variables(
    *,
    selection: VariantSelection,
    policies: Policies,
    base: Base,
    agent_url: str,
    agent_fingerprint: str,
    signing: Signing,
    bake_id: str,
    owner: str,
    started: datetime,
    expires_at: datetime,
    stage_dir: Path,
    work_dir: Path,
    images: Path = paths.IMAGES,
) -> Mapping[str, str]:
    """The variables of one bake, ready to be written as JSON for `packer build -var-file=`.

    `agent_url` stands before `/<version>/` in the address of the agent's package; `agent_fingerprint` is the only key
    whose signature of it counts. `stage_dir` is called `ovenproof`, because that is what it becomes in the guest.
    """
    return {
        "region": base.region,
        "bake_id": bake_id,
        "owner": owner,
        "expires_at": tags.format_time(expires_at),
        "deprecate_at": tags.format_time(started + timedelta(days=policies.deprecate_after_days)),
        "image_name": image_name(selection, bake_id),
        "base_id": base.id,
        "base_name": base.name,
        "agent_url": agent_url,
        "agent_fingerprint": agent_fingerprint,
        "images_dir": str(images),
        "stage_dir": str(stage_dir),
        "work_dir": str(work_dir),
        "signing_mode": signing.mode,
        "signer": signing.signer,
    }
