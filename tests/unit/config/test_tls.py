"""What `relay check` finds out about [ingest] tls."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization as form

from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry
from relay.config.tls import TlsSettings, make_server_context
from tests.certificates import Authority

REST = '[source.s]\ntype = "json"\npath = "/s"\nallow = ["unix"]\n[connector.c]\ntype = "stdout"\n'


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover(())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue()
    return made


def check(tmp_path: Path, registry: Registry, tls: str, **options: Any) -> tuple[list[str], list[str]]:
    """The mistakes, and the warnings."""
    (tmp_path / "conf.d").mkdir(exist_ok=True)
    (tmp_path / "conf.d" / "a.toml").write_text(f"{tls}\n{REST}")
    try:
        loaded = load([tmp_path / "conf.d"], registry, **options)
    except ConfigError as error:
        return [*map(str, error.mistakes)], [*map(str, error.warnings)]
    return [], [*map(str, loaded.warnings)]


def test_what_is_right_is_silent(tmp_path: Path, registry: Registry, authority: Authority) -> None:
    assert check(tmp_path, registry, authority.table(client_ca=str(authority.ca))) == ([], [])


def spoil_key(authority: Authority) -> None:
    old = authority.certificate.read_bytes()
    authority.issue()
    authority.certificate.write_bytes(old)


def no_key(authority: Authority) -> None:
    authority.key.unlink()


def swap(authority: Authority) -> None:
    authority.key.write_bytes(authority.ca.read_bytes())


def no_certificate(authority: Authority) -> None:
    authority.certificate.write_bytes(b"hello\n")


def half(authority: Authority) -> None:
    authority.certificate.write_bytes(authority.certificate.read_bytes()[:300])


def no_authority(authority: Authority) -> None:
    authority.ca.write_bytes(b"hello\n")


@pytest.mark.parametrize(
    ("spoil", "place", "said"),
    [
        (spoil_key, "3: ingest.tls.key", "does not belong to the certificate"),
        (no_key, "3: ingest.tls.key", "No such file"),
        (swap, "3: ingest.tls.key", "holds no private key in PEM form"),
        (no_certificate, "2: ingest.tls.certificate", "holds no certificate in PEM form"),
        (half, "2: ingest.tls.certificate", "cannot be used with its key"),
        (no_authority, "4: ingest.tls.client_ca", "holds no certificates in PEM form"),
    ],
)
def test_files_that_cannot_be_served_are_mistakes(
    tmp_path: Path, registry: Registry, authority: Authority, spoil: Any, place: str, said: str
) -> None:
    spoil(authority)
    mistakes, _ = check(tmp_path, registry, authority.table(client_ca=str(authority.ca)))
    assert len(mistakes) == 1
    assert mistakes[0].startswith(f"a.toml:{place}")
    assert said in mistakes[0]


def test_a_key_with_a_passphrase_waits_for_nobody(tmp_path: Path, registry: Registry, authority: Authority) -> None:
    key = form.load_pem_private_key(authority.key.read_bytes(), None)
    lock = form.BestAvailableEncryption(b"hunter2")
    authority.key.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, lock))
    mistakes, _ = check(tmp_path, registry, authority.table())
    assert mistakes == [
        "a.toml:3: ingest.tls.key: is protected by a passphrase, which nobody is there to type: store it without one"
    ]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[ingest]\ntls = { certificate = "/x.pem" }', "a.toml:2: ingest.tls.key: is missing"),
        ('[ingest]\ntls = { certifcate = "/x.pem" }', "certifcate: unknown key (did you mean certificate?)"),
        ('[ingest.tls]\nkey = "x.pem"', "a.toml:2: ingest.tls.key: expected the absolute path of a PEM file"),
        ('[ingest.tls]\nclient_certificates = "some"', "a.toml:2: ingest.tls.client_certificates: expected 'required'"),
    ],
)
def test_what_is_written_wrong_is_told(tmp_path: Path, registry: Registry, table: str, said: str) -> None:
    mistakes, _ = check(tmp_path, registry, table)
    assert any(said in mistake for mistake in mistakes), mistakes


@pytest.mark.parametrize(
    ("days", "options", "said"),
    [
        (30, {}, None),
        (13.9, {}, "this certificate ends in 334 hours, at "),
        (-1, {}, "senders refuse this certificate: certificate has expired"),
        (13.9, {"key_type": trustme.KeyType.RSA}, "this certificate ends in"),
    ],
)
def test_a_certificate_that_ends_is_a_warning(
    tmp_path: Path, registry: Registry, authority: Authority, days: float, options: Any, said: str | None
) -> None:
    authority.issue(days, **options)
    mistakes, warnings = check(tmp_path, registry, authority.table())
    assert mistakes == []
    assert len(warnings) == (said is not None)
    assert all(said in warning and "a.toml:2: ingest.tls.certificate: " in warning for warning in warnings if said)


def test_a_short_life_is_no_reason_to_warn_before_it_is_over(
    tmp_path: Path, registry: Registry, authority: Authority
) -> None:
    now = datetime.now(UTC)
    for left, warned in ((5, 0), (0.9, 1)):
        made = trustme.CA().issue_cert(
            "a.example", not_before=now - timedelta(6 - left), not_after=now + timedelta(left)
        )
        authority.certificate.write_bytes(made.cert_chain_pems[0].bytes())
        authority.key.write_bytes(made.private_key_pem.bytes())
        assert len(check(tmp_path, registry, authority.table())[1]) == warned


def test_tls_without_a_tcp_address_is_a_warning(tmp_path: Path, registry: Registry, authority: Authority) -> None:
    _, warnings = check(tmp_path, registry, f'[ingest]\nlisten = "unix:/run/x.sock"\n{authority.table()}')
    assert warnings == ["a.toml:3: ingest.tls: there is no TCP address in `listen` to serve it on"]


def test_credentials_of_systemd_and_variables_are_read_too(
    tmp_path: Path, registry: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = '[ingest.tls]\ncertificate = { credential = "fullchain.pem" }\nkey = { env = "TLS_KEY" }'
    monkeypatch.setenv("TLS_KEY", authority.key.read_text())
    assert check(tmp_path, registry, table)[0] != []
    mistakes, warnings = check(tmp_path, registry, table, secrets_required=False)
    assert (mistakes, len(warnings)) == ([], 1)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert check(tmp_path, registry, table) == ([], [])


def test_what_is_printed_of_it_has_no_key_in_it(authority: Authority) -> None:
    settings = TlsSettings.model_validate({"certificate": str(authority.certificate), "key": str(authority.key)})
    make_server_context(settings)
    assert "PRIVATE" not in f"{settings!r}{settings.model_dump_json()}"
