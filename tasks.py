"""Every command of Ovenproof: parse, call one function of `pipeline/`, show the result.

`./run` lists them. Imports are inside the tasks so that listing, and a typing error, cost nothing.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from invoke import Context, task

from pipeline.errors import OvenproofError, UsageError

VARIANT = "ecs-al2-kernel-5.10"
FLAVOUR = "x86_64"
ON_HELP = "where: `local`, this machine as the cloud, or `aws`"
VARIANT_HELP = "a variant of images/catalog.yaml"
FLAVOUR_HELP = "a flavour of the variant: x86_64, arm64, gpu, inf or neuron"
REGION_HELP = "AWS region; the catalog's default region unless given"

Body = TypeVar("Body", bound=Callable[..., Any])


def say(text: str) -> None:
    """A line for the user, at once also where output is a pipe."""
    print(text, flush=True)


def tells_errors(body: Body) -> Body:
    """Turn the errors a user can meet into their message and exit code; anything else is a bug and keeps its trace."""

    @functools.wraps(body)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            body(*args, **kwargs)
        except OvenproofError as error:
            _tell(f"\n{error}")
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            _tell("\nstopped")
            sys.exit(130)

    return wrapped  # type: ignore[return-value]


def _tell(text: str) -> None:
    """Print on standard error; when the terminal is gone there is nobody to tell, and the exit code still counts."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr)


@task(
    help={
        "variant": VARIANT_HELP,
        "flavour": FLAVOUR_HELP,
        "on": ON_HELP,
        "region": REGION_HELP,
        "force": "bake even when nothing changed since the last proven bake",
    }
)
@tells_errors
def build_image(
    _: Context, variant: str = VARIANT, flavour: str = FLAVOUR, on: str = "local", region: str = "", force: bool = False
) -> None:
    """Images: bake one, prove it, record it

    Bake an image, prove it on a new instance, and write its record; nothing changed means nothing is done.
    """
    from pipeline import flow

    print(flow.build_image(variant, flavour, on=on, region=region, force=force))


@task(help={"on": ON_HELP, "region": REGION_HELP})
@tells_errors
def plan(_: Context, on: str = "local", region: str = "") -> None:
    """Images: which would be baked, and why

    List every variant: would it be baked, and exactly which input changed.
    """
    from pipeline import flow

    print(flow.plan_all(on=on, region=region))


@task(
    help={
        "on": "where: `local`, a rehearsed organization on this machine, or `aws`",
        "account": "only this account (several: separated by commas); all members of the organization unless given",
        "region": "only this region (several: separated by commas)",
        "cluster": "only hosts and services of this ECS cluster",
        "group": "only hosts of this Auto Scaling group",
        "instance": "only this instance",
        "format": "table, json, csv or html",
        "out": "write the result to this file",
        "fail-under": "exit with 6 when less than this percentage is covered",
        "resume": "a file that keeps what was found, to go on after an interruption",
        "organization": "the YAML file of the rehearsed organization",
        "role": "name of the role to assume in each member account",
        "look-inside": "run a script that only reads on troubled hosts, by SSM; yes: by the document of member.yaml, "
        "shell: by AWS-RunShellScript (on local unless `no`)",
        "watch": "look again every 30 s until everything is covered, and say what changed",
        "earlier": "html: earlier results (json or resume files, separated by commas) to show a trend",
    }
)
@tells_errors
def coverage(
    _: Context,
    on: str = "local",
    account: str = "",
    region: str = "",
    cluster: str = "",
    group: str = "",
    instance: str = "",
    format: str = "table",
    out: str = "",
    fail_under: str = "",
    resume: str = "",
    organization: str = "",
    role: str = "",
    look_inside: str = "",
    earlier: str = "",
    watch: bool = False,
) -> None:
    """GuardDuty: what is not covered, why, what to do

    Say what GuardDuty covers, what it does not, why, and what to do: an instance, an account, an organization.
    """
    from pipeline.diagnosis import command

    command.coverage(
        on=on,
        account=account,
        region=region,
        cluster=cluster,
        group=group,
        instance=instance,
        format=format,
        out=out,
        fail_under=fail_under,
        resume=resume,
        organization=organization,
        role=role,
        look_inside=look_inside,
        earlier=earlier,
        watch=watch,
        show=print,
    )


@task(
    help={
        "on": "where: `local`, a rehearsed organization on this machine, or `aws`",
        "account": "member accounts, separated by commas",
        "unit": "all members below this organizational unit: its id, or names such as workloads/prod",
        "tag": "all accounts of the organization with this tag: key=value",
        "region": "regions, separated by commas",
        "agents": "agent configuration to switch on: ec2, fargate, or both; none where images have the agent inside",
        "new-accounts": "what accounts get that join later: NEW, ALL or NONE",
        "yes": "carry it out; without it there is only a plan",
        "undo": "bring back what this undo file says",
        "undo-file": "where to keep how it was",
        "organization": "the YAML file of the rehearsed organization",
    }
)
@tells_errors
def enable_monitoring(
    _: Context,
    on: str = "local",
    account: str = "",
    unit: str = "",
    tag: str = "",
    region: str = "",
    agents: str = "",
    new_accounts: str = "",
    yes: bool = False,
    undo: str = "",
    undo_file: str = "",
    organization: str = "",
) -> None:
    """GuardDuty: Runtime Monitoring for chosen members

    Enable Runtime Monitoring for selected member accounts, from the delegated administrator; plan first.
    """
    from pipeline.monitoring import command

    command.enable_monitoring(
        on=on,
        account=account,
        unit=unit,
        tag=tag,
        region=region,
        agents=agents,
        new_accounts=new_accounts,
        yes=yes,
        undo=undo,
        undo_file=undo_file,
        organization=organization,
        show=print,
    )


@task(
    help={
        "on": "where: `local`, a rehearsed organization on this machine, or `aws`",
        "account": "only these accounts, separated by commas",
        "region": "only these regions, separated by commas",
        "cluster": "only this ECS cluster",
        "endpoint": "create a stack with the data endpoint for each VPC that lacks it",
        "redeploy": "deploy Fargate services anew that need it, one by one",
        "yes": "carry it out; without it there is only a list",
        "by-organization": "let the whole organization use the endpoint, not only the VPC's account",
        "role": "name of the role to assume in each member account; OvenproofFix with --yes unless given",
        "organization": "the YAML file of the rehearsed organization",
    }
)
@tells_errors
def fix(
    _: Context,
    on: str = "local",
    account: str = "",
    region: str = "",
    cluster: str = "",
    endpoint: bool = False,
    redeploy: bool = False,
    yes: bool = False,
    by_organization: bool = False,
    role: str = "",
    organization: str = "",
) -> None:
    """GuardDuty: put right what is safe to put right

    Put coverage right where it is safe: data endpoints, new Fargate deployments; else the commands to run.
    """
    from pipeline.monitoring.fix import fix as put_right

    put_right(
        on=on,
        account=account,
        region=region,
        cluster=cluster,
        endpoint=endpoint,
        services=redeploy,
        yes=yes,
        by_organization=by_organization,
        role=role,
        organization=organization,
        show=print,
    )


FLEET_HELP = "with `local`: an example fleet (twenty, single, tight, gpu, managed-draining, blocked) or a fleet file"


@task(
    help={
        "group": "the Auto Scaling group",
        "cluster": "its ECS cluster; found unless given",
        "image": "an image; the promoted one unless given",
        "lane": "surge, rolling or replace-root-volume; preflight chooses unless given",
        "canary": "hosts that are proven before the rest follows",
        "alarm": "a CloudWatch alarm that must be quiet; may be given several times",
        "on-drain-timeout": "fail, skip-host or proceed",
        "calendar": "ARN of a Change Calendar that must be open",
        "dry-run": "stop after the plan",
        "follow": "with `aws`: an execution to come back to",
        "guests": "with `local`: hosts are guests of this machine, rolled onto the image that was last proven here",
        "fleet": FLEET_HELP,
        "on": ON_HELP,
        "region": REGION_HELP,
    },
    iterable=["alarm"],
)
@tells_errors
def roll(
    _: Context,
    alarm: list[str],
    group: str = "example",
    cluster: str = "",
    image: str = "",
    lane: str = "",
    canary: int = 1,
    on_drain_timeout: str = "",
    calendar: str = "",
    dry_run: bool = False,
    follow: str = "",
    guests: bool = False,
    fleet: str = "",
    on: str = "local",
    region: str = "",
) -> None:
    """Fleets: move a group onto the image

    Roll a group onto the image: preflight, plan with predicted time, canary, gate, the rest; back if it fails.
    """
    from pipeline import roll as rolls

    request = rolls.RollRequest(
        group=group,
        cluster=cluster,
        image=image,
        lane=lane,
        canary=canary,
        alarms=alarm,
        on_drain_timeout=on_drain_timeout,
        calendar=calendar,
    )
    if guests:
        if on != "local" or region or follow or image:
            raise UsageError(
                "guests are of this machine, and so is the image",
                expected="--guests without --on aws, --region, --follow and --image",
                where="./run roll",
            )
        rolls.roll_guests(request, variant=VARIANT, flavour=FLAVOUR, fleet=fleet, dry_run=dry_run, say=say)
        return
    rolls.roll(request, on=on, region=region, fleet=fleet, dry_run=dry_run, follow=follow, say=say)


@task(help={"group": "the Auto Scaling group", "fleet": FLEET_HELP, "on": ON_HELP, "region": REGION_HELP})
@tells_errors
def rollback(_: Context, group: str = "example", fleet: str = "", on: str = "local", region: str = "") -> None:
    """Fleets: bring a group back to what it ran

    Bring a group back to what it ran before its last roll: during it, after it failed, after it succeeded.
    """
    from pipeline import roll as rolls

    rolls.rollback(group, on=on, region=region, fleet=fleet, say=say)


@task(
    help={
        "fleet": "an example fleet or a fleet file; may be given several times; the examples unless given",
        "case": "one case, as the table names it: shows its steps and what happened",
        "quick": "cancels and deaths without crossing them with what AWS leaves open",
        "report": "an HTML page to write (with --case: an SVG picture)",
    },
    iterable=["fleet"],
)
@tells_errors
def rehearse(_: Context, fleet: list[str], case: str = "", quick: bool = False, report: str = "") -> None:
    """Fleets: break rolls in a model, at every step

    Roll fleets in the model with every fault, cancel and death at every step, and tell every rule that breaks.
    """
    from pipeline import rehearse as rehearsals

    rehearsals.rehearse(fleets=fleet, case=case, quick=quick, report=report, say=say)


@task(
    help={
        "group": "the Auto Scaling group",
        "region": REGION_HELP,
        "out": "the file to write; the group's name with .yaml unless given",
        "image": "the image to be rolled onto; the promoted one unless given",
        "alarm": "a CloudWatch alarm that a roll is to watch; may be given several times",
    },
    iterable=["alarm"],
)
@tells_errors
def snapshot_fleet(_: Context, alarm: list[str], group: str, region: str = "", out: str = "", image: str = "") -> None:
    """Fleets: read a group in AWS, to rehearse its roll

    Write a fleet file of a group in AWS, by calls that only read, to rehearse its roll here.
    """
    from pipeline import snapshot_fleet as snapshots

    print(snapshots.snapshot_fleet(group, region=region, out=out, image=image, alarms=alarm))


@task(
    help={
        "group": "the Auto Scaling group",
        "instance": "a host; may be given several times",
        "fleet": FLEET_HELP,
        "on": ON_HELP,
        "region": REGION_HELP,
    },
    iterable=["instance"],
)
@tells_errors
def prove_fleet(
    _: Context, instance: list[str], group: str = "", fleet: str = "", on: str = "local", region: str = ""
) -> None:
    """Fleets: prove hosts, with a remedy for each failure

    Prove hosts: kernel, unit over a window, checks, GuardDuty coverage; each failure with its remedy.
    """
    from pipeline import roll as rolls

    rolls.prove_fleet(group, instance, on=on, region=region, fleet=fleet, say=say)


@task(
    help={
        "group": "an Auto Scaling group: all of its hosts",
        "instance": "a host; may be given several times",
        "version": "of the agent; the catalog's unless given",
        "source": "where the agent's packages lie; AWS's bucket of the region unless given",
        "max-concurrency": "on how many hosts at once",
        "max-errors": "after how many failed hosts no further one begins; none unless given",
        "fleet": FLEET_HELP,
        "on": ON_HELP,
        "region": REGION_HELP,
    },
    iterable=["instance"],
)
@tells_errors
def install_agent(
    _: Context,
    instance: list[str],
    group: str = "",
    version: str = "",
    source: str = "",
    max_concurrency: str = "",
    max_errors: str = "",
    fleet: str = "",
    on: str = "local",
    region: str = "",
) -> None:
    """Fleets: the agent for hosts not yet re-imaged

    Install the agent on running hosts that cannot be replaced by baked ones yet, one first; each is proven.
    """
    from pipeline import install_agent as installing

    request = installing.InstallRequest(
        group=group,
        instances=instance,
        version=version,
        source=source,
        max_concurrency=max_concurrency,
        max_errors=max_errors,
    )
    installing.install_agent(request, on=on, region=region, fleet=fleet, say=say)


@task(help={"before": "a record: its file or bake id", "after": "the other one"})
@tells_errors
def diff(_: Context, before: str, after: str) -> None:
    """Images: compare two records

    Compare two records: packages, kernel, agent, units, sysctls, rules.
    """
    from pipeline import flow

    print(flow.diff_records(before, after))


@task(
    help={
        "variant": VARIANT_HELP,
        "flavour": FLAVOUR_HELP,
        "on": ON_HELP,
        "region": "with --to: the region of the bakes; the catalog's default region unless given",
        "regions": "regions in place of the catalog's, with commas; that of the bake is always one",
        "bake": "a bake's id; the newest proven one unless given",
        "hold": "make everything ready, and change no parameter: for approval",
        "to": "`previous` or a bake's id: let the parameters name an earlier image again",
        "topic": "ARN of the SNS topic that is told; $OVENPROOF_TOPIC unless given",
    }
)
@tells_errors
def promote(
    _: Context,
    variant: str = VARIANT,
    flavour: str = FLAVOUR,
    on: str = "local",
    region: str = "",
    regions: str = "",
    bake: str = "",
    hold: bool = False,
    to: str = "",
    topic: str = "",
) -> None:
    """Images: name the one that fleets run; or go back

    Make a proven image the one that fleets run, in all regions or none; or go back to an earlier one.
    """
    from pipeline import standing

    print(
        standing.promote_image(
            variant,
            flavour,
            on=on,
            region=region,
            regions=regions,
            bake=bake,
            hold=hold,
            to=to,
            topic=topic or os.environ.get("OVENPROOF_TOPIC", ""),
        )
    )


REGIONS_HELP = "regions in place of the catalog's, with commas"


@task(
    help={
        "on": ON_HELP,
        "region": REGION_HELP,
        "regions": REGIONS_HELP,
        "form": "text, json or html (on standard output)",
    }
)
@tells_errors
def status(_: Context, on: str = "local", region: str = "", regions: str = "", form: str = "text") -> None:
    """Images: what is promoted, how old, who runs it

    Show what is promoted where, how far behind its base is, and which groups run what.
    """
    from pipeline import standing

    print(standing.status(on=on, region=region, regions=regions, form=form))


@task(
    help={
        "variant": VARIANT_HELP,
        "flavour": FLAVOUR_HELP,
        "on": ON_HELP,
        "region": REGION_HELP,
        "regions": REGIONS_HELP,
    }
)
@tells_errors
def validate_published(
    _: Context, variant: str = VARIANT, flavour: str = FLAVOUR, on: str = "local", region: str = "", regions: str = ""
) -> None:
    """Images: promoted against what should be

    Compare what is promoted with what should be: correct, incorrect, missing, unexpected or unreachable.
    """
    from pipeline import standing

    print(standing.validate_published(variant, flavour, on=on, region=region, regions=regions))


@task(
    help={
        "on": ON_HELP,
        "region": REGION_HELP,
        "regions": REGIONS_HELP,
        "yes": "do it; without it only what would be done is said",
    }
)
@tells_errors
def retire(_: Context, on: str = "local", region: str = "", regions: str = "", yes: bool = False) -> None:
    """Images: give up old ones, with reasons

    Give up old images step by step, with the reason for each; never one that is used, or whose use is unseen.
    """
    from pipeline import standing

    print(standing.retire(on=on, region=region, regions=regions, yes=yes))


@task(help={"on": ON_HELP, "region": REGION_HELP, "dry-run": "only say what would be removed, and why"})
@tells_errors
def sweep(_: Context, on: str = "local", region: str = "", dry_run: bool = False) -> None:
    """Pipeline: remove what a killed bake left

    Remove what outlived its bake, by its expiry tag, and old versions of our documents that nobody refers to.
    """
    from pipeline import flow

    print(flow.sweep(on=on, region=region, dry_run=dry_run))


@task(
    help={
        "region": REGION_HELP,
        "stack": "its name",
        "set": "parameters of the stack, `Name=value` with semicolons between; those not named stay as they are",
        "yes": "do it; without it the change is only shown",
    }
)
@tells_errors
def deploy(_: Context, region: str = "", stack: str = "ovenproof", set: str = "", yes: bool = False) -> None:
    """Pipeline: create or update the stack in AWS

    Create or update the standing pipeline in AWS: scheduled bakes, their roles, bucket, key, alarms, documents.
    """
    from pipeline import scheduled

    print(scheduled.deploy_stack(region=region, stack=stack, settings=set, yes=yes))


@task(help={"region": REGION_HELP, "stack": "its name", "yes": "do it; without it what goes and stays is only shown"})
@tells_errors
def destroy(_: Context, region: str = "", stack: str = "ovenproof", yes: bool = False) -> None:
    """Pipeline: remove the stack, keep what it recorded

    Remove the standing pipeline; records, keys, logs, images and parameters stay.
    """
    from pipeline import scheduled

    print(scheduled.destroy_stack(region=region, stack=stack, yes=yes))


@task(
    help={
        "on": ON_HELP,
        "region": REGION_HELP,
        "bucket": "$OVENPROOF_BUCKET unless given",
        "fetch": "bring records and locks from the bucket",
        "store": "send records and locks to the bucket",
    }
)
@tells_errors
def records(
    _: Context, on: str = "local", region: str = "", bucket: str = "", fetch: bool = False, store: bool = False
) -> None:
    """Pipeline: fetch or store records in a bucket

    Fetch records and locks from a bucket, or store them there, for builds without a disk of their own.
    """
    from pipeline import scheduled

    bucket = bucket or os.environ.get("OVENPROOF_BUCKET", "")
    print(scheduled.exchange_records(on=on, region=region, bucket=bucket, fetch=fetch, store=store))


@task(help={"on": ON_HELP, "out": "the file to write"})
@tells_errors
def report(_: Context, on: str = "local", out: str = "build/reports/ovenproof.xml") -> None:
    """Pipeline: the newest proofs as a JUnit report

    Write the newest proof of each variant as a JUnit report, for CI.
    """
    from pipeline import scheduled

    print(scheduled.report(on=on, out=out))


@task(help={"on": ON_HELP, "region": REGION_HELP, "images": "variant/flavour, with spaces between"})
@tells_errors
def figures(_: Context, on: str = "local", region: str = "", images: str = f"{VARIANT}/{FLAVOUR}") -> None:
    """Pipeline: what the alarms watch, to CloudWatch

    Write to CloudWatch what the alarms watch: days since the last proof, and what outlived its bake.
    """
    from pipeline import scheduled

    print(scheduled.write_figures(on=on, region=region, images=images))


@task(help={"on": ON_HELP, "region": REGION_HELP, "write": "change the pins; without it they are only compared"})
@tells_errors
def update(_: Context, on: str = "local", region: str = "", write: bool = False) -> None:
    """Pipeline: newer programs than the pinned ones

    Look for newer programs and packages than the pinned ones, say what cannot be looked up, and show the plan.
    """
    from pipeline import scheduled

    print(scheduled.update(on=on, region=region, write=write))


@task(
    help={
        "start": "start it and leave it running",
        "stop": "end its guests and itself; images and records stay",
        "clean": "stop it, and remove local images, records and locks",
    }
)
@tells_errors
def local(_: Context, start: bool = False, stop: bool = False, clean: bool = False) -> None:
    """This machine: its cloud - show, start, stop, clean

    Show the local cloud: images, instances, addresses, disk used; or start, stop or clean it.
    """
    from pipeline.rehearsal.manage import manage

    print(manage(start=start, stop=stop, clean=clean))


@task(
    help={
        "document": "an Automation document, YAML or JSON",
        "parameters": "JSON, or a file of JSON or YAML",
        "fleet": "a fleet's file: the model of it answers",
        "endpoint-url": "an endpoint that answers every AWS call, in real time",
        "answers": "a YAML file of prepared answers: `service.Operation: [answer, ...]`",
        "trace": "write the steps as JSON here",
        "isolate-scripts": "run the document's scripts in a process of their own",
    }
)
@tells_errors
def execute(
    _: Context,
    document: str = "",
    parameters: str = "",
    fleet: str = "",
    endpoint_url: str = "",
    answers: str = "",
    trace: str = "",
    isolate_scripts: bool = False,
) -> None:
    """Documents: run any Automation document here

    Execute any SSM Automation document on this machine, as AWS documents it.
    """
    from pipeline.runbook import command

    command.execute_file(
        document,
        parameters=parameters,
        fleet=fleet,
        endpoint_url=endpoint_url,
        answers=answers,
        trace=trace,
        isolate_scripts=isolate_scripts,
    )


@task(
    help={
        "what": "`bake`: against bare `packer build` of the same template; `lint`: against cfn-lint on 100 documents; "
        "`coverage`: a survey of 400,000 instances against the fewest calls; `roll`: a surge of 20 to 2,000 hosts "
        "against its floor and a native refresh, and rehearsals a minute"
    }
)
@tells_errors
def bench(_: Context, what: str) -> None:
    """This machine: measure Ovenproof, as ratios

    Measure Ovenproof itself; ratios, because machines differ.
    """
    from pipeline import bench as benches

    print(benches.bench(what))


@task(
    help={
        "region": REGION_HELP,
        "instance-role": "the roles of your hosts, with commas: the only ones that a roll may hand to a host",
        "yes": "do it; without it only the differences are shown",
    }
)
@tells_errors
def publish_documents(_: Context, region: str = "", instance_role: str = "ecsInstanceRole", yes: bool = False) -> None:
    """Documents: create or update ours in AWS

    Create or update our SSM documents and their roles in AWS; the differences are shown first.
    """
    from pipeline import publish_documents as publishing

    print(publishing.publish_documents(region=region, instance_roles=instance_role, yes=yes, say=print))


@task(help={"path": "a document, or a folder of them; `./run lint` takes any number and more options, see --help"})
@tells_errors
def lint(_: Context, path: str = "") -> None:
    """Documents: check them against AWS's rules

    Check SSM documents: shape, AWS calls, selectors, paths, scripts, permissions; exit code 3 for errors.
    """
    from pipeline.runbook.lint import command

    sys.exit(command.main([path] if path else []))


@task(
    help={
        "fast": "leave out what boots guests or runs Packer",
        "only": "pytest's -k: only tests whose names match",
    }
)
@tells_errors
def test(_: Context, fast: bool = False, only: str = "") -> None:
    """This machine: linters and tests, as CI runs them

    Run linters, unit tests and the end-to-end bake; this is what CI runs.
    """
    from pipeline import testing

    sys.exit(testing.run_tests(fast=fast, only=only))
