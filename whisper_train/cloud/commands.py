"""`whisper-train vast`: its commands. Each reads its input, says what it costs, asks, and calls one function."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from whisper_train.errors import UserError
from whisper_train.exits import exits
from whisper_train.options import job_options, options
from whisper_train.paths import find_directories, read_environment, read_json

if TYPE_CHECKING:  # else `whisper-train --help` would wait for pydantic
    from whisper_train.cloud.image import Mode
    from whisper_train.cloud.need import Need

CREDIT_EXAMPLE = 10.0  # $


@click.group()
def vast() -> None:
    """Rent a machine at Vast.ai for a job. docs/vast.md goes through it."""


job_argument = click.argument("job")
label_argument = click.argument(
    "job", callback=lambda context, parameter, value: value.removesuffix(".yaml").split("/")[-1]
)
yes_option = click.option("--yes", is_flag=True, help="do not ask")
id_option = click.option("--id", "number", type=int, help="which instance, when several train the job")
image_options = options(
    click.option("--image", required=True, help="reference with registry and tag"),
    click.option("--mode", type=click.Choice(["ssh", "entrypoint"]), default="ssh", show_default=True),
    click.option("--stop-when-done", is_flag=True, help="the instance stops itself when the job has ended"),
)
disk_option = click.option("--disk", type=click.IntRange(min=8), help="GB; by default an estimate from the job")
need_options = options(
    job_options,
    click.option("--gpus", type=click.IntRange(min=1), help="how many"),
    click.option("--gpu-memory", type=float, help="GB of each"),
    disk_option,
)


@vast.command()
@click.argument("kind", type=click.Choice(["train", "qat", "eval"]))
@image_options
@click.option("--disk", type=click.IntRange(min=8), default=100, show_default=True, help="GB")
@click.option("--job", help="a job of the image that starts by itself")
@yes_option
@exits
def template(kind: str, image: str, mode: "Mode", stop_when_done: bool, disk: int, job: str | None, yes: bool) -> None:
    """Create or update the template of the image KIND."""
    from whisper_train.cloud.image import check_pushed
    from whisper_train.cloud.template import find_template, save_template, template_name, template_options
    from whisper_train.job_file import find_job

    environment = read_environment()
    if job is not None:
        find_job(job, environment)
    wanted = template_options(kind, image, mode, disk, job, stop_when_done)
    check_pushed(image)
    before = find_template(kind, environment)
    verb = "create" if before is None else "update"
    click.echo(f"{verb} the private template {template_name(kind)}: {image}, {mode} mode, {disk} GB of disk")
    click.echo("a template costs nothing; renting with it does")
    confirm(f"{verb} it?", yes)
    after = save_template(kind, before, wanted, environment)
    click.echo(
        f"template {after.get('id')}, hash {after.get('hash_id')}; rent with it at https://cloud.vast.ai/templates/"
    )


@vast.command()
@job_argument
@need_options
@click.option("--bid", is_flag=True, help="interruptible machines, by their lowest bid")
@click.option("--limit", type=click.IntRange(min=1), default=15, show_default=True, help="how many to list")
@exits
def offers(job: str, bid: bool, limit: int, **wanted: Any) -> None:
    """List machines that can run JOB, the cheapest first."""
    from whisper_train.cloud.offers import make_table, search_offers

    environment = read_environment()
    need = read_need(job, environment, **wanted)
    found = search_offers(need, bid=bid, limit=limit, environment=environment)
    click.echo(str(need))
    click.echo(make_table(found, bid=bid))
    more = " BID=<$ an hour>" if bid else ""
    click.echo(f"rent one: make vast-launch EXP={job} OFFER={found[0]['id']}{more}")


@vast.command()
@job_argument
@need_options
@image_options
@click.option("--offer", type=int, required=True, help="from vast offers")
@click.option("--bid", type=click.FloatRange(min=0.001, max=128), help="$ an hour, for an interruptible instance")
@yes_option
@exits
def launch(
    job: str, offer: int, bid: float | None, image: str, mode: "Mode", stop_when_done: bool, yes: bool, **wanted: Any
) -> None:
    """Rent OFFER and train JOB on it."""
    from whisper_train.cloud.client import find_user
    from whisper_train.cloud.image import check_pushed
    from whisper_train.cloud.instances import create_instance, instance_options, job_of, list_instances
    from whisper_train.cloud.offers import cost_of, find_offer

    environment = read_environment()
    need = read_need(job, environment, **wanted)
    request = instance_options(
        need, image=image, mode=mode, bid=bid, stop_when_done=stop_when_done, environment=environment
    )
    user = find_user(environment)
    check_pushed(image)
    found = find_offer(offer, need, bid=bid, environment=environment)
    click.echo(f"{need}\nimage {image}, {mode} mode{', stops itself at the end' if stop_when_done else ''}")
    if len(need.jobs) > 1:
        click.echo(
            f"trains {', '.join(each.name for each in need.jobs)}, one after the other: the instance has no bases"
        )
    for row in list_instances(environment):
        if job_of(row) == need.job.name:
            click.echo(f"note: instance {row.get('id')} trains {need.job.name} already, and costs its own price")
    show_cost(found, cost_of(found, need.disk_gb, bid), need, user)
    confirm("rent it?", yes)
    number = create_instance(offer, request, environment)
    name = need.job.name
    click.echo(f"instance {number} is being set up; the image takes minutes to arrive")
    click.echo(f"make vast-logs EXP={name}      what it says\nmake vast-fetch EXP={name}     its results")
    click.echo(f"make vast-destroy EXP={name}   ends the costs")


@vast.command()
@label_argument
@id_option
@click.option("--tail", type=click.IntRange(min=1), default=100, show_default=True, help="lines")
@exits
def logs(job: str, number: int | None, tail: int) -> None:
    """Show what the instance of JOB says, and what it costs."""
    from whisper_train.cloud.instances import describe, find_instance, read_logs

    environment = read_environment()
    instance = find_instance(job, number, environment)
    click.echo(describe(instance))
    click.echo(read_logs(instance["id"], tail, environment))


@vast.command()
@label_argument
@id_option
@exits
def fetch(job: str, number: int | None) -> None:
    """Bring the results and logs of JOB back."""
    from whisper_train.cloud.fetch import fetch as fetch_run
    from whisper_train.cloud.instances import describe, find_instance

    environment = read_environment()
    instance = find_instance(job, number, environment)
    click.echo(describe(instance))
    fetch_run(job, instance["id"], environment, click.echo)


@vast.command()
@label_argument
@id_option
@yes_option
@exits
def destroy(job: str, number: int | None, yes: bool) -> None:
    """Destroy the instance of JOB and everything on its disk."""
    from whisper_train.cloud.instances import describe, destroy_instance, find_instance

    environment = read_environment()
    instance = find_instance(job, number, environment)
    click.echo(describe(instance))
    run = find_directories(environment).models / job / "run.json"
    if run.is_file():
        click.echo(f"{run} says: {read_json(run).get('status')}; what came after that is lost")
    else:
        click.echo(f"nothing of {job} is in {run.parent}: everything it made is lost (make vast-fetch EXP={job})")
    confirm("destroy it?", yes)
    destroy_instance(instance["id"], environment)
    click.echo(f"instance {instance['id']} is destroyed and costs nothing more")


def read_need(
    job: str,
    environment: Mapping[str, str],
    *,
    machine: str | None,
    overrides: tuple[str, ...],
    gpus: int | None,
    gpu_memory: float | None,
    disk: int | None,
) -> "Need":
    """What the job needs, from the options of a command."""
    from whisper_train.cloud.need import find_need

    return find_need(
        job,
        machine=machine,
        gpus=gpus,
        gpu_gb=gpu_memory,
        disk_gb=disk,
        overrides=overrides,
        environment=environment,
    )


def show_cost(offer: Mapping[str, Any], cost: Any, need: "Need", user: Mapping[str, Any]) -> None:
    """Says what an offer costs, an hour and for as long as the disk exists."""
    from whisper_train.cloud.offers import HOURS_PER_MONTH, number_of

    place = offer.get("geolocation") or "an unnamed place"
    memory = number_of(offer, "gpu_ram")  # MiB
    click.echo(
        f"offer {offer['id']}: {offer.get('num_gpus')} × {offer.get('gpu_name')} with {memory / 1024:.0f} GB, {place}"
    )
    if offer.get("num_gpus") != need.gpus or memory < need.gpu_gb * 1000:
        click.echo("note: this is less, or other, than the machine profile is written for")
    kind = "machine, your bid (paused while others bid more)" if cost.bid else "machine"
    click.echo(f"  ${cost.machine:.3f} an hour: {kind}")
    month = cost.disk * HOURS_PER_MONTH
    click.echo(
        f"  ${cost.disk:.3f} an hour: {need.disk_gb} GB of disk, ${month:.2f} a month, stopped or not, until destroyed"
    )
    down, up = number_of(offer, "inet_down_cost"), number_of(offer, "inet_up_cost")
    click.echo(f"  ${down:.3f} a GB down, ${up:.3f} a GB up: traffic, the image and the results among it")
    click.echo(f"  ${cost.together:.3f} an hour together: {last(CREDIT_EXAMPLE, cost.together)}")
    credit = user.get("credit", user.get("balance"))
    if isinstance(credit, int | float):
        click.echo(f"  your balance: {last(credit, cost.together)}")


def last(dollars: float, hourly: float) -> str:
    return f"${dollars:.2f} last {dollars / hourly:.1f} h" if hourly else f"${dollars:.2f}"


def confirm(question: str, yes: bool) -> None:
    """Asks; raises UserError when the answer is no, or nobody is there to give one."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody can be asked here; YES=1 (or --yes) says yes beforehand")
    if not click.confirm(question):
        raise UserError("nothing was done")
