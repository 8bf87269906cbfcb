import ssl

import pytest
import trustme

from relay.api.transport.authorities import Deferred, defer_authorities


@pytest.fixture
def context(monkeypatch, tmp_path) -> ssl.SSLContext:
    """A usual context of a machine with one authority."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    with defer_authorities():
        return ssl.create_default_context()


def test_a_deferred_context_reads_authorities_at_its_first_connection(context) -> None:
    assert not context.get_ca_certs()
    assert context.verify_mode is ssl.CERT_REQUIRED
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="relay.example")
    assert len(context.get_ca_certs()) == 1
    assert not isinstance(context, Deferred)


def test_contexts_that_are_made_later_read_authorities_at_once(context) -> None:
    assert isinstance(context, Deferred)
    assert len(ssl.create_default_context().get_ca_certs()) == 1
