"""`relay alerts`: how alerts are, a test of one, and what they would tell now."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from relay.cli.client import require_running
from relay.cli.format import format_table, format_time
from relay.cli.options import relay_options, utf8
from relay.status import AlertStatus
from relay.words import escape_text

TEST_S = 3700.0
"""A test may take as long as the longest `timeout`."""
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group
def alerts() -> None:
    """Show and test the alerts of the running relay."""


@alerts.command("list")
@_JSON
@relay_options
def list_(state: Path, as_json: bool) -> None:
    """List the alerts: what is wrong, what waits, and the last message of each.

    Exit codes: 0 every alert can send; 1 an alert cannot send, or no relay runs.
    """
    answer = require_running(state).read("GET", "/alerts")
    found = msgspec.json.decode(answer, type=list[AlertStatus])
    if as_json:
        click.echo(msgspec.json.format(answer).decode())
    elif found:
        rows = [["alert", "type", "sent", "waiting", "given up", "last message (UTC)"]]
        for one in found:
            last = "-"
            if one.last is not None:
                sent = "sent" if one.last.sent else f"not sent: {escape_text(one.last.problem)}"
                last = f"{format_time(one.last.at)}, {sent}"
            rows.append([one.alert, one.type, f"{one.sent:,}", f"{one.waiting:,}", f"{one.given_up:,}", last])
        told = [f"{one.alert} has told: {escape_text(what)}" for one in found for what in one.told]
        click.echo("\n".join([*format_table(rows), *told]))
    else:
        click.echo("no [alert.NAME] is configured")
    raise SystemExit(1 if any(one.failing for one in found) else 0)


@alerts.command
@click.argument("name", type=utf8)
@_JSON
@relay_options
def test(state: Path, name: str, as_json: bool) -> None:
    """Send a test message by the alert NAME, as the alert sends every message.

    Exit codes: 0 sent; 1 not sent, no such alert, or no relay runs.
    """
    answer = require_running(state).ask("POST", f"/alerts/{quote(name, safe='')}/test", timeout=TEST_S)
    if as_json:
        click.echo(json.dumps(answer))
    elif answer["sent"]:
        click.echo(f"sent: {answer['id']}")
    else:
        click.echo(f"not sent: {answer['problem']}", err=True)
    raise SystemExit(0 if answer["sent"] else 1)


@alerts.command
@_JSON
@relay_options
def show(state: Path, as_json: bool) -> None:
    """Show what each alert would send now. Sends nothing.

    Also shows what has not lasted for `after` yet.

    Exit codes: 0 shown; 1 no relay runs.
    """
    answer: dict[str, dict[str, Any]] = require_running(state).ask("GET", "/alerts/now")
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for name, message in answer.items():
        click.echo(f"[alert.{name}]\n{message['text'] if message['alarms'] else 'nothing is wrong'}\n")
