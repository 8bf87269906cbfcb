"""Repairs the journals of all workers. Blocking."""

from pathlib import Path

from relay.journal import Repair, plan_repair, repair
from relay.state import convert_errors, list_journals, mark_repaired, read_acknowledged


@convert_errors()
def plan_repairs(state: Path, path: Path) -> dict[int, list[Repair]]:
    """Plan the repairs of every worker's journal, by worker. `path`: the setting `journal.path`. Raises Unavailable."""
    found = list_journals(state, path).items()
    return {number: plan_repair(journal, read_acknowledged(folder)) for number, (folder, journal) in found}


@convert_errors()
def repair_all(state: Path, path: Path) -> int:
    """Repair every worker's journal; return the number of repaired segments. Raises Unavailable."""
    done = 0
    for folder, journal in list_journals(state, path).values():
        repaired = [one.segment.path.name for one in repair(journal, read_acknowledged(folder))]
        mark_repaired(folder, repaired)
        done += len(repaired)
    return done
