"""How long a certificate is good, as relay reads it."""

from datetime import UTC, datetime, timedelta

import pytest
import trustme

from relay.api.transport.pem import validity

NOW = datetime(2026, 12, 1, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize("kind", list(trustme.KeyType))
@pytest.mark.parametrize(
    "ends", [NOW + timedelta(days=1), datetime(2049, 12, 31, tzinfo=UTC), datetime(2061, 7, 4, tzinfo=UTC)]
)
def test_the_period_of_a_certificate_is_read(kind: trustme.KeyType, ends: datetime) -> None:
    made = trustme.CA().issue_cert("a.example", not_before=NOW, not_after=ends, key_type=kind)
    chain = b"comment\n" + b"".join(one.bytes() for one in made.cert_chain_pems)
    assert validity(chain.decode()) == (NOW.timestamp(), ends.timestamp())


@pytest.mark.parametrize("body", ["", "AAAA", "MAA=", "MIIB", "MIIBfjCCASSgAwIBAgIUFp=="])
def test_what_is_no_certificate_is_told(body: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  whatever it says, it is told with the name of the setting
        validity(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
