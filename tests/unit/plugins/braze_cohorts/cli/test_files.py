"""Which users a file names, and which files are refused because they may mean something else."""

import json
from io import BytesIO
from typing import Any

import click
import pytest

from relay_plugins.braze_cohorts.cli.files import Form, read_users


@pytest.mark.parametrize(
    ("text", "users"),
    [
        ("a\nb\na\n", ["a", "b"]),
        ("External_ID,city\na,Graz\n", ["a"]),
        ('"external_id","city"\n"a","Graz"\n"Doe, J","Wien"\n', ["a", "Doe, J"]),
        ('"a"\n"b\\"c"\n', ["a", 'b"c']),
        ('{"city": "Graz", "external_id": "a"}\n\n{"id": 17}\n', ["a", "17"]),
        ("\ufeffidentity\r\na\r\n", ["a"]),
        ("17\n18\n", ["17", "18"]),
    ],
)
def test_users_in_files(text: str, users: list[str]) -> None:
    assert read_users(BytesIO(text.encode()), Form()) == users


@pytest.mark.parametrize(
    ("text", "form", "users"),
    [
        ("external_id;name\nuser-1;A\n", {}, ["user-1"]),
        ("name\texternal_id\nA\tuser-1\n", {}, ["user-1"]),
        ("email,External ID\na@b.example,user-1\n,\n", {}, ["user-1"]),
        ("id,external_id\n1,user-1\n", {}, ["user-1"]),
        ("external_id,device_id\nuser-1,phone\n", {"match": "device_id"}, ["phone"]),
        ("external_id,alias_name\nuser-1,17\n", {"match": "alias:crm"}, ["17"]),
        ("Customer ID\nuser-1\n", {"header": True}, ["user-1"]),
        ("customer\nuser-1\n", {"header": False}, ["customer", "user-1"]),
        ("Customer ID,name\nuser-1,A\n", {"column": "customer id"}, ["user-1"]),
        ("A,user-1\nB,user-2\n", {"column": "2"}, ["user-1", "user-2"]),
        ("1,2\n3,4\n", {"column": "2"}, ["2", "4"]),
        ("anna\nbert\n", {}, ["anna", "bert"]),
        ("ID\nanna\n", {}, ["anna"]),
        ('{"id": 1, "external_id": "user-1"}\n', {}, ["user-1"]),
        ('{"external_id": "user-1", "device_id": "phone"}\n', {"match": "device_id"}, ["phone"]),
        ('{"key": "user-1", "id": 5}\n', {"column": "key"}, ["user-1"]),
    ],
)
def test_the_column_with_the_users_is_found(text: str, form: dict[str, Any], users: list[str]) -> None:
    assert read_users(BytesIO(text.encode()), Form(**form)) == users


@pytest.mark.parametrize(
    ("text", "form", "mistake"),
    [
        ("Customer ID\nuser-1\n", {}, "is 'Customer ID' a header, or a user"),
        ("customerId\nanna\n", {}, "is 'customerId' a header, or a user"),
        ("Kundennummer\n10017\n10018\n", {}, "is 'Kundennummer' a header, or a user"),
        ("email\na@b.example\n", {}, "is 'email' a header, or a user"),
        ("device_id\nphone\n", {}, "is 'device_id' a header, or a user"),
        ("user-1;A\nuser-2;B\n", {}, "which of 2 columns has the users"),
        ("email,name\na@b.example,A\n", {}, "which of 2 columns has the users"),
        ("external_id,name\nuser-1,A\nuser-2\n", {"column": "name"}, "'user-2' has no column 2"),
        (
            "external_id,name\nuser-1,A\n",
            {"column": "nmae"},
            "there is no column 'nmae'; the first line has external_id",
        ),
        ("user-1\n", {"column": "2"}, "there is no column 2"),
        ("user-1\n", {"column": "0"}, "there is no column 0"),
        ('["user-1", "user-2"]\n', {}, "one user a line"),
        ('{"external_id": "user-1"}\n', {"match": "device_id"}, "none of the fields device_id, id, identity: --column"),
    ],
)
def test_a_file_that_may_mean_something_else_is_refused(text: str, form: dict[str, Any], mistake: str) -> None:
    file = BytesIO(text.encode())
    file.name = "users.csv"
    with pytest.raises(click.ClickException, match=mistake):
        read_users(file, Form(**form))


@pytest.mark.parametrize(
    ("data", "mistake"),
    [
        (b"", "names no user"),
        (b"external_id\n", "names no user"),
        (b"\xff\n", "is neither UTF-8 nor UTF-16: from Excel save it as"),
        ("M\u00fcller\n".encode("cp1252"), "CSV UTF-8"),
        ("a\nb\n".encode("utf-16-le"), "UTF-16 that does not say so"),
        (b'{"external_id": "a"}\nb\n', "is not JSON"),
        (b'{"name": "a"}\n', "none of the fields"),
        (b'"' + b"a" * 200_000 + b",\n", "field larger"),
    ],
)
def test_files_that_name_nobody_or_cannot_be_read(data: bytes, mistake: str) -> None:
    file = BytesIO(data)
    file.name = "users.csv"
    with pytest.raises(click.ClickException, match=mistake):
        read_users(file, Form())


HEAPS_EXPORT = "User ID,Identity,Joined\n8210047391,user-1,2026\n8210047392,user-2,2026\n"


@pytest.mark.parametrize(
    ("data", "form", "users"),
    [
        (HEAPS_EXPORT.encode(), {}, ["user-1", "user-2"]),
        (HEAPS_EXPORT.encode("utf-16"), {}, ["user-1", "user-2"]),
        (b'{"user_id": 82, "identity": "user-1"}\n', {}, ["user-1"]),
        (b"sep=;\r\nexternal_id;name\r\nuser-1;A\r\n", {}, ["user-1"]),
        ('"sep=|"\nexternal_id|name\nuser-1|A\n'.encode("utf-16"), {}, ["user-1"]),
        (b"user_id,id\nuser-1,user-1\n", {}, ["user-1"]),
        (b"user_id,id\nuser-1,7\n", {"column": "user_id"}, ["user-1"]),
        (b"external_id\n17.0\nuser-1\n1.5E3\nTotal Ltd\n", {}, ["17.0", "user-1", "1.5E3", "Total Ltd"]),
    ],
)
def test_what_heap_and_spreadsheets_write_is_read(data: bytes, form: dict[str, Any], users: list[str]) -> None:
    """Looked at as well: NDJSON, `--column`, UTF-16 of both orders, and what is refused below."""
    assert read_users(BytesIO(data), Form(**form)) == users


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("user_id,id\nuser-1,user-1\nuser-2,7\n", "which has the users, user_id .'user-2'. or id .'7'."),
        ('{"user_id": "user-1", "id": 7}\n', "which has the users, user_id .'user-1'. or id .7."),
        ("external_id,external_user_id\na,b\n", "which has the users, external_id"),
        ("external_id\n1.23457E+15\n", "last digits are lost"),
        ("external_id\n1,23457E+15\n", "more columns than the header"),
        ("external_id\n17.0\n18.0\n", "all users end like '17.0'"),
        ("external_id\nuser-1\nNaN\n", "'NaN' stands for a value that is missing"),
        ("external_id\nuser-1\n#N/A\n", "stands for a value that is missing"),
        ("external_id\nuser-1\n#REF!\n", "stands for a value that is missing"),
        ("external_id\nuser\x00-1\n", "cannot be seen|line contains NUL"),
        ("external_id\nuser-\u200b1\n", "cannot be seen"),
        ("external_id\nuser-1\nTotal\n", "is the line of a sum|that of a sum"),
        ("name,external_id\nA,user-1\nTotal:,1\n", "'Total:,1', is that of a sum"),
        ("external_id\nuser-1\nGrand Total 1234\n", "sum"),
    ],
)
def test_damage_and_columns_that_disagree_are_refused(text: str, mistake: str) -> None:
    file = BytesIO(text.encode())
    file.name = "users.csv"
    with pytest.raises(click.ClickException, match=mistake):
        read_users(file, Form())


DAMAGED = {
    "stands for a value that is missing": r"#NV #BEZUG! #¡REF! #NAME? N/A NA (null) \N inf -Infinity - -- ? nil",
    "is a truth value": "TRUE false WAHR",
    "is a guard or formula": "=\"00123\" '00123' '00123 =A1",
    "is that of a sum": "Sum|Summe|Gesamt|Gesamtsumme|Total général|Total: 2|2 rows|(2 rows)|(1,234 rows sent)",
    "parted by thousands": "1,234 12,345,678",
    "taken for a date": "2-Jan|Jan-02|2-Mär-26|2. Dez|1/May",
}


@pytest.mark.parametrize(
    ("value", "mistake"),
    [(one, said) for said, values in DAMAGED.items() for one in values.split("|" if "|" in values else " ")],
)
@pytest.mark.parametrize("name", ["users.csv", "users.ndjson"])
def test_ids_that_look_mangled_by_programs_are_refused_unless_confirmed(value: str, mistake: str, name: str) -> None:
    """Looked at as well: NDJSON, `diff` and `watch`, which read files by the same function."""
    as_json = name.endswith("ndjson")
    lines = ["external_id", "user-1", '"' + value.replace('"', '""') + '"']
    file = BytesIO("\n".join(map(json.dumps, ["user-1", value]) if as_json else lines).encode())
    file.name = name
    said = mistake.replace("is that of a sum", "is that of a sum|is the line of a")
    with pytest.raises(click.ClickException, match=f"({said}).*; if that is right, say --as-is"):
        read_users(file, Form())
    file.seek(0)
    assert read_users(file, Form(as_is=True)) == ["user-1", value]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("external_id\n17.0\n18\n", "all users are numbers, and some end like '17.0'"),
        ("external_id,n\na,1\nexternal_id,n\nb,2\n", "'external_id,n' is the header once more"),
        ("external_id\na\nexternal_id\n", "'external_id' is the header once more"),
        ("external_id,External ID\na,a\na,b\n", "which has the users, external_id .'a'. or External ID .'b'."),
        ('{"id": "a", "id": "b"}\n', "'id' is there twice: 'a' and 'b'"),
    ],
)
def test_headers_that_repeat_and_mixed_columns_are_refused(text: str, mistake: str) -> None:
    with pytest.raises(click.ClickException, match=mistake):
        read_users(csv_of(text), Form())
    with pytest.raises(click.ClickException, match="which has the users"):
        read_users(csv_of("x,X\na,b\n"), Form(column="x"))


@pytest.mark.parametrize("user", ["1E5", "a-", "Total Ltd", "sum-17", "nancy", "infinite", "1.234", "jan", "mar17"])
def test_ids_that_only_resemble_damage_are_taken(user: str) -> None:
    assert read_users(csv_of(f'external_id\nuser-1\n"{user}"\nuser-2\n'), Form()) == ["user-1", user, "user-2"]


def csv_of(text: str) -> BytesIO:
    file = BytesIO(text.encode())
    file.name = "users.csv"
    return file


QUOTED = b'"external_id"\n"user-30"\n'


@pytest.mark.parametrize(
    ("name", "form", "data", "users"),
    [
        ("vip.csv", {}, QUOTED, ["user-30"]),
        ("VIP.CSV", {}, b'"user-30"\n"say ""hi"""\n', ["user-30", 'say "hi"']),
        ("<stdin>", {"header": True}, b'"who"\n"user-30"\n', ["user-30"]),
        ("<stdin>", {"header": False}, b'"who"\n"user-30"\n', ["who", "user-30"]),
        ("<stdin>", {}, QUOTED, ["user-30"]),
        ("<stdin>", {}, b'"user-30"\n"b\\"c"\n', ["user-30", 'b"c']),
        ("vip.ndjson", {}, QUOTED, ["external_id", "user-30"]),
        ("vip.csv", {}, b'{"external_id": "user-30"}\n', ["user-30"]),
    ],
)
def test_quotes_are_csv_where_anything_says_so(name: str, form: dict[str, Any], data: bytes, users: list[str]) -> None:
    file = BytesIO(data)
    file.name = name
    assert read_users(file, Form(**form)) == users


@pytest.mark.parametrize(
    ("data", "mistake"),
    [
        (b'"a"\n\nb\n', "line 3: 'b' is not JSON: Expecting value$"),
        (b'{"id": "a"}\n{"name": "b"}\n', "line 2: .* has none of the fields"),
    ],
)
def test_mistakes_in_ndjson_say_where(data: bytes, mistake: str) -> None:
    file = BytesIO(data)
    file.name = "vip.ndjson"
    with pytest.raises(click.ClickException, match=mistake):
        read_users(file, Form())
