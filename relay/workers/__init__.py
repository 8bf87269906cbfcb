"""Several workers in processes of their own: a supervisor starts them, hears them and replaces those that die."""

from relay.workers.supervisor import is_needed, supervise

__all__ = [
    "is_needed",
    "supervise",
]
