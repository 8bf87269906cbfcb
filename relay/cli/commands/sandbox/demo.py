"""`relay sandbox`: see relay at work between stand-ins of Braze and Heap, and see the counts balance."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
from click.core import ParameterSource

from relay.cli.commands.running.console import name_missing_extra
from relay.cli.commands.sandbox.stand_ins import braze, heap, segment
from relay.cli.output import rewrite_line
from relay.sandbox import STORIES, Demo, DemoConsole, Result, SandboxError, Step, format_result, play_story

TERMINAL_SECONDS: Final = 0.2
PLAIN_SECONDS: Final = 1.0


@click.group(invoke_without_command=True)
@click.option("--events", default=20_000, show_default=True, type=click.IntRange(1), help="How many events to send.")
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="Events per second at most; 0: no limit.")
@click.option(
    "--scenario", type=click.Choice([*STORIES]), help="Tell a story of Heap segments and Braze cohorts instead."
)
@click.option("--console", "with_console", is_flag=True, help="Go on until Ctrl-C, with a console to look at.")
@click.option("--keep", metavar="DIR", type=click.Path(path_type=Path), help="Work in this new folder and keep it.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@click.pass_context
def sandbox(
    ctx: click.Context,
    events: int,
    rate: float,
    scenario: str | None,
    with_console: bool,
    keep: Path | None,
    as_json: bool,
) -> None:
    """Run the demo: made-up events through relay, counted at the end.

    The events go to a file and to a stand-in of Heap. At the end the command says whether the counts balance.
    Everything is local and temporary. With a command it runs one stand-in.

    With --console it goes on with some events a second, and prints the address of relay's console and who can sign in
    and launch connectors. That needs the package currents-relay[console].

    With --scenario it plays a closed loop: a Heap segment becomes a Braze cohort, a campaign goes to the cohort, and
    Heap gets the sends. There are three scenarios. The scenario `funnel` shows the drop-off of each step, and an
    audience that excludes a second cohort. The scenario `trial` sends reminders on days 1, 3 and 7 of the stand-ins'
    clock, to users who have not subscribed by then. The scenario `offer` has a control group that gets nothing, and
    shows what both groups bought.

    Exit codes: 0 balanced, or as the scenario expects; 1 not.
    """
    if ctx.invoked_subcommand:
        return
    if scenario is not None:
        for option, name in (("events", "events"), ("rate", "rate"), ("console", "with_console")):
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--{option} is for the demo: a scenario has a story of its own")
        _play_scenario(ctx, scenario, keep, as_json)
    if with_console:
        with name_missing_extra():
            import jinja2  # noqa: F401  a console that cannot start is told before the demo begins
    result = _run_demo(partial(Demo, events=events, rate=rate), keep, with_console=with_console, as_json=as_json)
    ctx.exit(0 if result.all_balance else 1)


def _run_demo(make_demo: Callable[..., Demo], keep: Path | None, *, with_console: bool, as_json: bool) -> Result:
    """Run a demo with live counts, and print its result. Raises click.ClickException."""
    terminal = sys.stderr.isatty()
    show = rewrite_line if terminal else partial(click.echo, err=True)
    interval = TERMINAL_SECONDS if terminal else PLAIN_SECONDS
    linger = partial(_show_way_in, as_json=as_json) if with_console else None
    try:
        with _make_folder(keep) as folder:
            result = asyncio.run(make_demo(folder=folder, show=show, interval=interval, linger=linger).run())
    except SandboxError as error:
        raise click.ClickException(str(error)) from None
    except asyncio.CancelledError:
        raise click.Abort from None
    finally:
        if terminal:
            rewrite_line("")
    if not with_console:
        _print_result(result, as_json=as_json)
    return result


def _show_way_in(result: Result, console: DemoConsole, *, as_json: bool) -> None:
    """Print a result, and how to get into the console that shows its relay."""
    if sys.stderr.isatty():
        rewrite_line("")
    _print_result(result, as_json=as_json)
    way_in = f"Open {console.url} and sign in as {console.user} with the secret {console.secret}"
    to_try = (
        f"To launch a connector there: New: connector, type heap, endpoint {console.heap_url};"
        f' at token choose "paste it once", and paste {console.secret}'
    )
    arrived = f"The stand-in of Heap counts what has arrived: curl {console.books_url}"
    click.echo(f"{way_in}\n{to_try}\n{arrived}\nCtrl-C ends the demo.", err=as_json)


def _print_result(result: Result, *, as_json: bool) -> None:
    click.echo(json.dumps(_make_summary(result), indent=2) if as_json else format_result(result))


def _play_scenario(ctx: click.Context, scenario: str, keep: Path | None, as_json: bool) -> None:
    try:
        with _make_folder(keep) as folder:
            played = asyncio.run(play_story(scenario, folder))
    except (SandboxError, TimeoutError) as error:
        raise click.ClickException(str(error)) from None
    good = all(one.good for one in played)
    steps, users, lines = [], [], []
    for one in played:
        if isinstance(one, Step):
            steps.append({"step": one.text, "expected": one.expected, "found": one.found})
            line, expected = f"{one.found:4} {one.text}", f"{one.expected} expected"
        else:
            users.append(asdict(one))
            line, expected = f"     {one.user}: {'; '.join(one.found)}", f"expected {'; '.join(one.expected)}"
        lines.append(line if one.good else f"{line}  WRONG: {expected}")
    plain = {"scenario": scenario, "steps": steps, "users": users, "as_told": good}
    click.echo(json.dumps(plain, indent=2) if as_json else "\n".join(lines))
    ctx.exit(0 if good else 1)


sandbox.add_command(braze)
sandbox.add_command(heap)
sandbox.add_command(segment)


@contextmanager
def _make_folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with TemporaryDirectory(prefix="relay-sandbox-") as folder:
            yield Path(folder)
        return
    try:
        keep.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise click.BadParameter(f"{keep} exists already: name a new folder", param_hint="--keep") from None
    yield keep.resolve()


def _make_summary(result: Result) -> dict[str, object]:
    return {
        "sent": result.sent,
        "accepted": result.accepted,
        "unreadable": result.unreadable,
        "parked_at_source": result.parked_at_source,
        "connectors": result.make_rows(),
        "balances": result.all_balance,
    }
