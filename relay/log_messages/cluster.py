"""Messages about several relays that share one store in PostgreSQL."""

from typing import Final

from relay.log_messages.message import LogMessage

NODES: Final = (
    LogMessage(
        "events are in the database",
        "info",
        "Logged at the start. `acknowledged` says on how many servers an event is once the sender has its 2xx.",
    ),
    LogMessage(
        "the database is away",
        "error",
        "A server has closed a connection, takes no connection, or has not answered in time. Senders get 503, and send"
        " again. What fails until the database is back is not logged.",
        "Look at `reason`, which has the server's own words. relay goes on by itself once the database answers.",
    ),
    LogMessage("the database is back", "info", "The database answers again, after `after_s` seconds."),
    LogMessage(
        "the tables of the cluster are gone",
        "error",
        "Somebody has dropped the tables while this relay ran, and perhaps made new ones. Senders get 503. This relay"
        " does not touch the new tables. What fails until the old tables are back is not logged.",
        "Look at `reason`. Stop all relays, restore the old tables, and start the relays. `relay journal init` makes"
        " the tables of another cluster. This relay uses them only after `relay accept journal` and a restart.",
    ),
    LogMessage(
        "the tables of the cluster are back",
        "info",
        "The tables are those of the cluster that this relay has worked with. This relay goes on.",
    ),
    LogMessage(
        "another relay has taken the name of the node",
        "error",
        "This relay stood still, and another relay has started under its name since. This relay takes events in, and"
        " delivers nothing. `reason` says where the other relay runs.",
        "Stop one of the two, or give each a `journal.node` of its own.",
    ),
    LogMessage(
        "the name of the node is free again",
        "info",
        "The other relay with this name has ended, or the database has lost what it knew. This relay delivers again.",
    ),
    LogMessage(
        "leases not renewed",
        "debug",
        "The database has not answered. relay tries again until its leases are over.",
    ),
    LogMessage(
        "lease not given back",
        "warning",
        "The database has not answered. Another process can have the partition in `ends_in_s` seconds.",
    ),
    LogMessage(
        "partition runs here",
        "info",
        "This process delivers the events of the partition from now on.",
    ),
    LogMessage(
        "partition does not run here any more",
        "info",
        "This process has given the partition back, or another process has it.",
    ),
    LogMessage(
        "partition ends here, its deliveries under way are cut short",
        "warning",
        "Another process runs the partition, or may begin to. Destinations may get up to `window` events of a connector"
        " twice.",
        "Look at `reason`. The database may not have answered for as long as the lease, or this process stood still. If"
        " the drain budget is used up, raise `runtime.drain`.",
    ),
    LogMessage(
        "partition cannot be opened, will be tried again",
        "error",
        "The events of the partition wait until this process or another one can open the partition.",
        "Look at `reason`.",
    ),
    LogMessage(
        "limits are divided by more partitions",
        "info",
        "A node has added partitions. Each partition that runs here has a smaller part of `rate` and other limits now.",
    ),
    LogMessage(
        "limits cannot be divided by more partitions, will be tried again",
        "error",
        "A node has added partitions. Until they are divided, all partitions together may exceed `rate`.",
        "Look at `reason`. A restart of this node divides the limits, too.",
    ),
    LogMessage(
        "partitions cannot be looked up, they go on until they are lost",
        "error",
        "This process cannot learn which partitions it is to run, although the database answers.",
        "Look at `reason`. relay tries again, and goes on by itself.",
    ),
    LogMessage(
        "partitions can be looked up again",
        "info",
        "The process learns again which partitions it is to run.",
    ),
)
