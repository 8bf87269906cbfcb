"""What an error of Kafka means for a delivery.

The meaning follows from the number of the error (Kafka docs, Protocol: error codes).
"""

from typing import Final

from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    BrokerResponseError,
    IncompatibleBrokerVersion,
    KafkaError,
    UnknownError,
    for_code,
)

from relay.api import Reject, Retry, Unauthorized

STORED: Final = frozenset({0, 46})
"""No error, and a sequence number that the broker has seen before: the messages are there."""
TOO_LARGE: Final = frozenset({10, 18})
UNFIT: Final = frozenset({*TOO_LARGE, 32, 87})
"""Errors that come from a message: its size, its time, or no key where the topic is compacted."""
STALE: Final = frozenset({45, 47, 49, 59})
"""A broker knows the identity of the producer no more, or misses numbers: another identity begins from 0."""
UNKNOWN_TOPIC: Final = 3
NAMES: Final = {
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    10: "MESSAGE_TOO_LARGE",
    76: "UNSUPPORTED_COMPRESSION_TYPE",
    87: "INVALID_RECORD",
}
"""Names that aiokafka does not know, or has wrong."""
CURES: Final = {
    UNKNOWN_TOPIC: "create the topic",
    17: "Kafka does not allow the name of this topic",
    29: "grant the user the rights Write and Describe on the topic",
    31: "grant the user the right IdempotentWrite on the cluster",
    33: "choose a mechanism that the brokers have: sasl",
    34: "the brokers expect another login: check sasl and tls",
    35: "the brokers are older than Kafka 0.11",
    43: "the topic has messages of an older format",
    44: "a policy of the brokers is against it",
    58: "check user and password",
    76: "choose another compress",
}
"""Errors that last until an admin changes something, and what to do."""


def is_lasting(code: object) -> bool:
    """Return whether an error lasts until an admin changes something. A topic may still be on its way."""
    return code in CURES and code != UNKNOWN_TOPIC


def name_error(code: int) -> str:
    """Return the name of an error of a broker."""
    known = for_code(code)
    return NAMES.get(code) or (known.message if known is not UnknownError else f"error {code}")


def read_code(code: int, topic: str) -> Retry | Unauthorized:
    """Return the outcome of an error of a broker about a topic."""
    said = f"Kafka, topic {topic}: {name_error(code)}"
    cure = CURES.get(code)
    return Unauthorized(f"{said}; {cure}") if cure else Retry(said)


def refuse_messages(code: int, topic: str, size: int) -> Reject:
    """Return the outcome of a message that the broker does not store. `size`: bytes that were sent."""
    if code in TOO_LARGE:
        limit = f"the topic's max.message.bytes is less than its {size:,} bytes"
        return Reject(f"Kafka, topic {topic}: {name_error(code)}: {limit}")
    return Reject(f"Kafka, topic {topic}, does not store it: {name_error(code)}")


def read_error(error: KafkaError, server: str) -> Retry | Unauthorized:
    """Return the outcome of an error on the way to a server, such as a refused login."""
    said = f"Kafka, {server}: "
    if isinstance(error, BrokerResponseError):
        code, detail = int(error.errno), " ".join(str(one) for one in error.args if isinstance(one, str))
        said += name_error(code) + (f" ({detail[:200]})" if detail else "")
        return Unauthorized(f"{said}; {CURES[code]}") if code in CURES else Retry(said)
    if isinstance(error, AuthenticationFailedError | AuthenticationMethodNotSupported | IncompatibleBrokerVersion):
        return Unauthorized(said + str(error))
    return Retry(said + str(error))
