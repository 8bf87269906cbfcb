"""Mistakes that people make: what `relay check` says of each, with file and line and what to do.

Looked at as well: mistakes of one setting alone (test_load.py), files nobody should write (test_hostile_files.py).
"""

from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from relay.config.load import load
from relay.config.mistake import ConfigError
from relay.config.plugins.registry import Registry

SOURCE = '[source.in]\ntype = "json"\npath = "/in"\nallow = ["unix"]\n'
ARCHIVE = '[connector.archive]\ntype = "file"\npath = "a.ndjson"\n'
GOOD = SOURCE + ARCHIVE
"""7 lines."""
HTTP = SOURCE + '[connector.h]\ntype = "http"\nurl = '
BRAZE = '[source.braze]\ntype = "currents"\npath = "/in"\nallow = ["unix"]\n'
ADMIN = '[admin]\ntokens = [{ env = "PATH" }]\n'
COHORTS = '[connector.c]\ntype = "braze_cohorts"\nmode = "attribute"\ncluster = "US-01"\nrest_key = { env = "PATH" }\n'
OTHERS = ("could not be read: more", "grows without limit")
"""What is said of every file that cannot be read, and of every archive here."""
EACH = "choose another port or path"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover(())


def told(folder: Path, registry: Registry) -> list[str]:
    """Mistakes, and warnings behind a `warning: `, but those that OTHERS are about."""
    try:
        mistakes, warnings = [], load([folder], registry).warnings
    except ConfigError as error:
        mistakes, warnings = [*map(str, error.mistakes)], error.warnings
    return [*mistakes, *(f"warning: {one}" for one in warnings if not any(word in one.reason for word in OTHERS))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type = “file”", '3: not TOML: “ in column 8 is no quote of TOML: write " instead'),
        ('type = "file”', '3: not TOML: the text that begins in column 8 has no closing ": ” is no quote of TOML'),
        ('type = "file', '3: not TOML: the text that begins in column 8 has no closing "'),
        ("type = 'file", "3: not TOML: the text that begins in column 8 has no closing '"),
        ('type = """file', '3: not TOML: the text that begins in column 8 has no closing """'),
        ('type = file"', "3: not TOML: Invalid value (at line 3, column 8); strings need quotes"),
        (
            'type\u00a0= "file"',
            "3: not TOML: in column 5 is a no-break space (U+00A0), which cannot be seen: write a plain space instead",
        ),
        (
            '\u200btype = "file"',
            "3: not TOML: in column 1 is a zero width space (U+200B), which cannot be seen: take it out",
        ),
        (
            '\ufefftype = "file"',
            "3: not TOML: in column 1 is a byte order mark (U+FEFF), which cannot be seen: take it out",
        ),
        ('type = "file" # “all” of it\u00a0\npath = "“a”\u00a0.ndjson"', None),
        (
            "type: file",
            '3: not TOML: this looks like YAML: in TOML a table is [source.braze], and a setting is type = "currents"',
        ),
        ('{"type": "file"}', "3: not TOML: this looks like JSON: in TOML a table is [source.braze], and a setting"),
        ("// type = 1", "3: not TOML: a comment begins with #"),
        ("<<<<<<< HEAD", "3: not TOML: a merge was not completed: keep one of both sides, and remove its marks"),
        (
            "[connector.x]",
            "3: not TOML: [connector.x] stands already in line 2: keep one of them, or give this table another name",
        ),
        (
            "[[connector.x]]",
            "3: not TOML: [connector.x] stands already in line 2: keep one of them, or give this table another name",
        ),
        ("rate = 1\nrate = 2", "4: not TOML: connector.x.rate is set already in line 3: keep one of them"),
        (
            "batch.events = 1\nbatch.events = 2",
            "4: not TOML: connector.x.batch.events is set already in line 3: keep one",
        ),
        (
            "batch = { events = 1 }\n[connector.x.batch]",
            "4: not TOML: [connector.x.batch] stands already in line 3: keep",
        ),
    ],
)
def test_what_is_no_toml_is_told_as_its_writer_sees_it(
    tmp_path: Path, registry: Registry, text: str, expected: str | None
) -> None:
    (tmp_path / "a.toml").write_text(f"# a comment, isn't it\n[connector.x]\n{text}\n", encoding="utf-8")
    (tmp_path / "b.toml").write_text(SOURCE)
    if expected is None:
        assert told(tmp_path, registry) == []
    else:
        (found,) = [one for one in told(tmp_path, registry) if not one.startswith("warning")]
        assert found.startswith(f"a.toml:{expected}")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[connector.x]\ntype = http", "type = http"),
        ("[source.x]\nrate = 1\n  type=heap_segments ", "  type=heap_segments"),
        ("[connector.x]\ntype = hunter2", "type = ..."),
        ("[connector.x]\ntype = http # hunter", "type = ..."),
        ("[connector.x]\ntype = http token = hunter", "type = ..."),
        ("[connector.x]\ntype = 'hunter", "type = ..."),
        ("[connector.x]\ntypo = hunter", "typo = ..."),
        ("[connector.x]\ntokens = [\ntype = hunter", "type = ..."),
        ("[connector.x.headers]\ntype = hunter", "type = ..."),
        ("[ingest.tls]\ntype = hunter", "type = ..."),
    ],
)
def test_an_unquoted_type_is_shown_and_no_other_value(
    tmp_path: Path, registry: Registry, text: str, shown: str
) -> None:
    """A file that is not TOML may have a secret anywhere else."""
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        load([tmp_path], registry)
    (mistake,) = [one for one in raised.value.mistakes if one.file == "a.toml"]
    assert mistake.excerpt == shown
    assert "hunter" not in str(raised.value)


@pytest.mark.promise(7)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "listen = '127.0.0.1:1'\n" + GOOD,
            ["1: listen: stands above the first table: put it below its table, such as "],
        ),
        ("level = 'info'\n" + GOOD, ["1: level: stands above the first table: put it below its table, such as [log]"]),
        ("jurnal = { path = 'x' }\n" + GOOD, ["1: jurnal: unknown table; known: ingest, journal, "]),
        (
            GOOD + "[ingest]\nlisten = '0.0.0.0:99999'",
            ["9: ingest.listen: '0.0.0.0:99999' has a port that does not exist: 65535 is the last one"],
        ),
        (
            GOOD + "[ingest]\nlisten = ['127.0.0.1:9000',\n'127.0.0.1:9000']",
            [f"10: ingest.listen[1]: 127.0.0.1:9000 is taken already by ingest.listen[0] (a.toml:9): {EACH}"],
        ),
        (
            GOOD + "[metrics]\nlisten = '127.0.0.1:8080'",
            [f"9: metrics.listen: 127.0.0.1:8080 is taken already by ingest.listen (its default): {EACH}"],
        ),
        (
            GOOD + "[ingest]\nlisten = '0.0.0.0:9000'\n" + ADMIN + "listen = 'localhost:9000'",
            [f"12: admin.listen: localhost:9000 is taken already by ingest.listen (a.toml:9): {EACH}"],
        ),
        (
            GOOD + "[metrics]\nlisten = '[::]:9464'\n" + ADMIN + "listen = '127.0.0.1:9464'",
            [f"9: metrics.listen: [::]:9464 is taken already by admin.listen (a.toml:12): {EACH}"],
        ),
        (
            GOOD + "[ingest]\nlisten = 'unix:/run/x.sock'\n[metrics]\nlisten = 'unix:/run/x.sock'",
            [f"11: metrics.listen: unix:/run/x.sock is taken already by ingest.listen (a.toml:9): {EACH}"],
        ),
        (GOOD + "[ingest]\nlisten = ['[::]:80', '0.0.0.0:80']\n[metrics]\nlisten = ['[::1]:0', '[::1]:0']", []),
        (
            GOOD + "[ingest]\nlisten = 'wrong'\n[metrics]\nlisten = '127.0.0.1:8080'",
            ["9: ingest.listen: expected an address"],
        ),
        (
            GOOD + ARCHIVE.replace("archive", "other"),
            ["w10: connector.other.path: [connector.archive] writes to the same file: their lines are mixed"],
        ),
        (
            GOOD + ARCHIVE.replace("archive", "other").replace("a.nd", "{type}.nd") + "max_total = '1GB'",
            ["w10: connector.other.path: also removes the files of [connector.archive], by keep or max"],
        ),
        (GOOD + ARCHIVE.replace("archive", "other").replace("a.nd", "a-{date}.nd") + "keep = '1d'", []),
        (
            GOOD + "after_parked = 'park'",
            ['w8: connector.archive.after_parked: does nothing without order_by: add order_by = "user.user_id"'],
        ),
        (GOOD + "after_parked = 'park'\norder_by = 'user.user_id'", []),
        (BRAZE + '[source.s]\ntype = "json"\npath = "/s"\nallow = ["unix"]\n' + COHORTS + "after_parked = 'park'", []),
        (
            GOOD + "window = 10",
            [
                "w8: connector.archive.window: 10,000 events are more than window = 10: one batch goes at a time,"
                " and comes again whole; raise window, or lower batch.events"
            ],
        ),
        (
            GOOD + "[journal]\nmemory = '64MiB'\nmax_size = '32MiB'",
            [
                "w9: journal.memory: memory (64MiB) is more than max_size (32MiB), all that the journal may hold:"
                " lower memory, or raise max_size"
            ],
        ),
        (GOOD + "[journal]\nmax_size = '32MiB'", []),
        (
            GOOD + "[ingest]\nmax_body = '32MiB'\n[journal]\nmax_size = '32MiB'",
            ["w9: ingest.max_body: bodies beyond 16MiB, half of journal.max_size, never fit into the journal"],
        ),
        (
            BRAZE + COHORTS,
            [
                "w5: connector.c: takes cohort.Change alone, and no source brings that:"
                " add a source of the type heap_segments"
            ],
        ),
        (SOURCE + COHORTS, []),  # by relay cohorts push
        (
            HTTP + '"https://a.example/x y"',
            ["w7: connector.h.url: holds a blank, which is sent as %20: take it out, or write "],
        ),
        (
            HTTP + '"https://a.example/x "',
            ["7: connector.h.url: a URL has no blank at its ends or in its host: take it out"],
        ),
        (
            HTTP + '"https://a. example/"',
            ["7: connector.h.url: a URL has no blank at its ends or in its host: take it out"],
        ),
        (
            HTTP + '"https://..."',
            ["7: connector.h.url: a URL needs the name of a host, not dots: write the real address"],
        ),
        (
            HTTP + '"https://…/events"',
            ["7: connector.h.url: a URL needs the name of a host, not dots: write the real address"],
        ),
        (HTTP + '"https://a.example/x%20y"', []),
        (
            HTTP + '"https://a.example/"\nca = "/no/ca.pem"\ncertificate = "/no/c.pem"\nkey = "/no/k.pem"',
            [
                '8: connector.h.ca: { file = "/no/ca.pem" } cannot be read: [Errno 2] No such file',
                '9: connector.h.certificate: { file = "/no/c.pem" } cannot be read: [Errno 2] No such file',
                '10: connector.h.key: { file = "/no/k.pem" } cannot be read: [Errno 2] No such file',
            ],
        ),
        (
            HTTP + '"https://a.example/"\nca = "/etc/hostname"',
            ["8: connector.h: ca: holds no certificates in PEM form"],
        ),
        (HTTP + '"https://a.example/"\nkey = "/etc/hostname"', ["8: connector.h: certificate is missing: certificate"]),
        (HTTP + '"https://a.example/"\nproxy = "proxy:1"', ["8: connector.h.proxy: expected a URL such as "]),
        (
            HTTP + '"https://a.example/"\nproxy = { env = "PATH" }',
            ['8: connector.h.proxy: { env = "PATH" } holds no URL'],
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_found(
    tmp_path: Path, registry: Registry, text: str, expected: list[str]
) -> None:
    (tmp_path / "a.toml").write_text(text)
    found = told(tmp_path, registry)
    wanted = [f"warning: a.toml:{one[1:]}" if one.startswith("w") else f"a.toml:{one}" for one in expected]
    assert len(found) == len(wanted), found
    assert all(one.startswith(start) for one, start in zip(found, wanted, strict=True)), found


def test_files_that_are_not_read_are_told(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    for name in ("b.TOML", "c.conf", "d.yml", ".e.conf", "f.conf~", "README", "g.toml.example", "h.conf.dpkg-old"):
        (tmp_path / name).write_text("[log]\n")
    for folder in ("60-heap.d", "more", "a.toml.d", "empty"):
        (tmp_path / folder).mkdir()
    for folder in ("60-heap.d", "more", "a.toml.d"):
        (tmp_path / folder / "x.toml").write_text('[log]\nlevel = "info"\n')
    assert told(tmp_path, registry) == [
        "warning: 60-heap.d: is a folder whose files are not read: name it 60-heap.toml.d if it overrides keys of"
        " 60-heap.toml, else put them beside it",
        "warning: b.TOML: is not read: name it .toml, in lower case",
        "warning: c.conf: is not read: name it .toml, in lower case",
        "warning: d.yml: is not read: name it .toml, in lower case",
        "warning: more: is a folder whose files are not read: put them beside it",
    ]


def test_tables_that_lack_the_same_setting_share_one_lenient_model(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Making a model takes longer than checking many tables."""
    made = list[str]()

    def count(name: str, **given: Any) -> Any:
        made.append(name)
        return create_model(name, **given)

    monkeypatch.setattr("relay.config.validation_errors.create_model", count)
    tables = [f'[connector.c{n}]\ntype = "http"\nodd_{n} = 1\n' for n in range(9)]
    (tmp_path / "a.toml").write_text(SOURCE + "".join(tables))
    assert len(told(tmp_path, registry)) == 2 * len(tables)
    assert len(made) <= 1


def test_the_folder_above_conf_d_is_a_mistake(tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text(GOOD)
    meant = f"there is no *.toml in {tmp_path}: {tmp_path / 'conf.d'} is probably meant"
    assert told(tmp_path, registry)[0] == meant
    assert told(tmp_path / "conf.d", registry) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), []),
        (b"\xff\xfe" + GOOD.encode("utf-16-le"), ["a.toml:1: is UTF-16: save it as UTF-8"]),
        (GOOD.encode() + b"# caf\xe9\n", ["a.toml:8: is not UTF-8: save it as UTF-8"]),
    ],
    ids=["byte order mark", "UTF-16", "Latin-1"],
)
def test_a_coding_is_read_or_named(tmp_path: Path, registry: Registry, content: bytes, expected: list[str]) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    assert [one for one in told(tmp_path, registry) if not one.startswith("warning")] == expected
