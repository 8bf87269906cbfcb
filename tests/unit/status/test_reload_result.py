"""The outcome of a reload, in words."""

from relay.config import Mistake
from relay.status.reload_result import ReloadChange, ReloadResult, ReloadWarning, merge_results

KEPT = "kept until 7d 0h old (journal.retention), as long as there is room, in case it is added back"


def test_reload_result_in_words_tells_what_waits_for_a_connector() -> None:
    result = ReloadResult(
        [
            ReloadChange("connector", "web", "removed", pending=1, failing_erasures=2, kept_for=7 * 86400.0),
            ReloadChange("connector", "heap", "switched off", failing_erasures=1, kept_for=7 * 86400.0),
            ReloadChange("connector", "file", "added", pending=1200),
            ReloadChange("connector", "mkt", "changed", keys=["filters", "url"]),
            ReloadChange("filter", "strip", "added"),
            ReloadChange("source", "braze", "removed", disables=True),
            ReloadChange("source", "shop", "removed"),
            ReloadChange("setting", "journal.max_size", "changed"),
        ],
        restart_needed=["ingest.listen"],
        warnings=[ReloadWarning("connector new", "connector new: no way to ...")],
    )
    assert result.said == [
        f"connector web: removed; 1 pending event {KEPT}; 2 erasures that failed there wait until web is added back,"
        " or relay forget web gives up",
        "connector heap: switched off; 1 erasure that failed there waits until heap is added back, or relay forget heap"
        " gives up",
        "connector file: added; goes on where it was, 1,200 events pending",
        "connector mkt: changed: filters, url",
        "filter strip: added",
        "warning: source braze: removed; its path answers 404 now, which ends in Braze disabling a Current",
        "warning: source shop: removed; its path answers 404 now",
        "journal.max_size: changed",
        "ingest.listen: takes a restart",
        "warning: connector new: no way to ...",
    ]


def test_reload_without_changes_says_so_and_a_trial_says_nothing() -> None:
    assert (ReloadResult().said, ReloadResult().lines) == (["nothing has changed"], [])


def test_merged_mistakes_of_workers_are_told_once_and_refuse_the_reload() -> None:
    refused = ReloadResult(mistakes=[Mistake(file="60-heap.toml", line=1, reason="no")])
    both = merge_results([ReloadResult([ReloadChange("alert", "ops", "added")]), refused, refused])
    assert (both.ok, both.said) == (False, ["60-heap.toml:1: no"])
