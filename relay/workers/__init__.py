"""Several workers in processes of their own: a supervisor starts them, checks them and replaces dead ones."""

from relay.workers.supervisor import supervise

__all__ = [
    "supervise",
]
