"""The table [console]: what `relay check` finds wrong with it, and what of it is no matter of the daemon."""

import pytest

from relay.config.load import load
from tests.certificates import Authority
from tests.unit.config.conf_files import mistakes, write
from tests.unit.config.conf_files import warnings as warnings_of

USER = "[console.user.anna]\nmay = 'look'\n"
PROXY = "user_header = 'X-User'\ntrusted_proxies = ['unix']\n"
BY_PROXY = f"[console]\n{PROXY}{USER}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[console]\nlisten = '0.0.0.0:8082'",
            "2: console: listen: 0.0.0.0:8082 is neither a loopback address nor a unix socket, and there is no user: ",
        ),
        ("[console]\nuser_header = 'X-User'", "2: console: user_header is believed from nobody: set trusted_proxies"),
        ("[console]\nuser_header = 'X User'", "2: console.user_header: expected the name of a header such as"),
        ("[console]\nhosts = ['https://a.example/']", "2: console.hosts[0]: expected the name of a host, without"),
        ("[console]\nhosts = ['a.example', 'a.example:443']", "2: console.hosts[1]: expected the name of a host"),
        ("[console]\nlisten = []", "2: console.listen: expected an address such as"),
        ("[console]\nlaunch = 'yes'", "2: console.launch: expected true or false"),
        ("[console]\nlunch = true", "2: console.lunch: unknown key (did you mean launch?)"),
        (
            "[console]\ntls = { certificate = '/x', key = '/x', kee = 1 }",
            "2: console.tls.kee: unknown key (did you mean key?)",
        ),
        (USER, "1: console.user.anna: has no `secret`, and there is no `user_header`: nobody can sign in by this"),
        (f"{BY_PROXY}mai = 'look'", "6: console.user.anna.mai: unknown key (did you mean may?)"),
        (f"{BY_PROXY}secret = 'hunter2'", "6: console.user.anna.secret: a secret is a reference, never the secret"),
        (BY_PROXY.replace("look", "all"), "5: console.user.anna.may: expected 'look', 'steer' or 'configure'"),
        (BY_PROXY.replace("may = 'look'\n", ""), "4: console.user.anna.may: is missing"),
        (BY_PROXY.replace("anna", "'  '"), "4: console.user.  : a user's name has 1 to 100 printable ASCII characters"),
        (f"[console]\n{PROXY}[console.user]\nmay = 'look'", "5: console.user.may: expected a table"),
        (
            "[console]\nlisten = '127.0.0.1:8080'",
            "2: console.listen: 127.0.0.1:8080 is taken already by ingest.listen (its default): choose another",
        ),
        (
            "[console]\nlaunch = true\n[metrics]\nlisten = '127.0.0.1:8082'",
            "1: console.listen: 127.0.0.1:8082 is taken already by metrics.listen (a.toml:4): choose another",
        ),
    ],
)
def test_a_mistake_of_the_console_is_told_with_its_place(tmp_path, registry, text, expected):
    told = mistakes(write(tmp_path, a=text), registry)
    assert len(told) == 1
    assert told[0].startswith(f"a.toml:{expected}")
    assert "hunter2" not in told[0]


@pytest.mark.parametrize(
    "text",
    [
        "[console]\ntrusted_proxies = 'unix'",
        "[console]\nlisten = ['127.0.0.1:9000', '[::1]:9000', 'unix:/run/relay/console.sock']",
        f"[console]\nlisten = '0.0.0.0:8082'\nhosts = ['a.example', 'localhost', '10.0.0.1']\n{PROXY}{USER}",
        BY_PROXY.replace("anna", "'anna@a.example'"),
        "[metrics]\nlisten = '127.0.0.1:8082'",
    ],
)
def test_what_a_console_may_say_is_taken(tmp_path, registry, text):
    assert load([write(tmp_path, a=text)], registry)


def test_what_the_console_cannot_read_does_not_stop_the_daemon(tmp_path, registry):
    """The service of the console may have credentials that the service of the daemon has not."""
    secret = tmp_path / "secret"
    secret.write_text("two\nlines")
    write(
        tmp_path,
        a=f"""
[console]
tls = {{ certificate = "/not/there", key = {{ credential = "key" }} }}
[console.user.anna]
secret = {{ credential = "anna" }}
may = "look"
[console.user.bert]
secret = {{ file = "{secret}" }}
may = "steer"
""",
    )
    assert not [told for told in warnings_of(tmp_path, registry) if "console" in told]
    told = [one for one in warnings_of(tmp_path, registry, secrets_required=False) if "console" in one]
    assert [one.partition(" cannot be ")[0] for one in told] == [
        'a.toml:3: console.tls.certificate: { file = "/not/there" }',
        'a.toml:3: console.tls.key: { credential = "key" }',
        'a.toml:5: console.user.anna.secret: { credential = "anna" }',
        f'a.toml:8: console.user.bert.secret: {{ file = "{secret}" }}',
    ]
    assert "relay-console.service has it, if the unit has LoadCredential=anna:/PATH" in told[2]
    assert told[-1].endswith("cannot be typed: it holds a line break or another control character")


def test_a_certificate_without_its_key_and_plain_http_are_warned_of(tmp_path, registry):
    authority = Authority(tmp_path / "tls")
    other = Authority(tmp_path / "other")
    for one in (authority, other):
        one.issue()
    (tmp_path / "conf.d").mkdir()
    listen = (
        f"[console]\nlisten = '0.0.0.0:8082'\n[console.user.anna]\nmay = 'look'\nsecret = {{ file = '{other.key}' }}"
    )
    (tmp_path / "conf.d/a.toml").write_text(listen.replace("file = ", "env = 'PATH' } #"))
    told = warnings_of(tmp_path / "conf.d", registry, secrets_required=False)
    assert "a.toml:2: console.listen: nobody can sign in at 0.0.0.0:8082 by plain http" in "\n".join(told)
    tls = f"tls = {{ certificate = '{authority.certificate}', key = '{other.key}' }}"
    (tmp_path / "conf.d/a.toml").write_text(f"[console]\n{tls}\n")
    told = warnings_of(tmp_path / "conf.d", registry, secrets_required=False)
    assert "a.toml:2: console.tls.key: " in "\n".join(told)


def test_another_console_on_another_machine_is_no_difference_of_a_cluster(tmp_path, registry):
    write(tmp_path, a__a="[log]\nlevel = 'info'", b__a="[log]\nlevel = 'info'\n[console]\nlaunch = true")
    assert load([tmp_path / "a"], registry).config.digests == load([tmp_path / "b"], registry).config.digests
