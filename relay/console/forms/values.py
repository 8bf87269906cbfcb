"""Turns the values of a table into what its form shows, and a posted form into values. Pure.

A form is texts by the names of inputs. What a form shows is what a browser posts again. Values that a control would
not give back exactly as they are, are shown as TOML: saving a form never changes what nobody touched.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.api.internal import WAYS
from relay.config import list_leaves, show_value
from relay.console.forms.fields import NOT_SET, Field, FieldControl, flatten
from relay.console.forms.scalars import read_scalar, write_scalar
from relay.console.forms.toml_text import read_toml, write_toml
from relay.words import escape

Inputs = Mapping[str, str]
"""Texts by the names of inputs. Those of the parts of a field have the name of the field, a colon, and one of these."""
AS_TOML: Final = "toml"
"""The whole value, in place of all other inputs of the field."""
KEEP: Final = "keep"
"""Whether the value stays as it is in the file: the form does not show it."""
WAY: Final = "from"
PLACE: Final = "at"
PASTED: Final = "paste"
"""The input for a secret itself, and the choice of it. No page shows it again."""
IN_FILE: Final = "text"
"""The choice of a text in place of a reference to a secret."""
PLACES: Final = {"file": "the path of the file", "env": "the name of the variable"}
"""What a choice asks for."""
TIME: Final = "time"
"""The choice of a time as the start of a connector."""
STARTS: Final = ("now", "oldest")
MOST_SECRETS: Final = 100
"""Secrets in a list."""
MOST_NAMES: Final = 100
"""Names in an order."""
MOST_LINES: Final = 1000
"""Entries of a field. Longer lists are shown as TOML, which is read faster."""
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:(?!00)\d\d)?", re.ASCII)
"""A time as browsers write it."""


@dataclass(frozen=True, slots=True)
class FormValues:
    """What a posted form says."""

    values: dict[str, Any] = field(default_factory=dict)
    mistakes: dict[str, str] = field(default_factory=dict)
    """What cannot be read, by the name of the field."""


def read_form(fields: Sequence[Field], form: Inputs, before: Mapping[str, Any]) -> FormValues:
    """Read a posted form. `before`: the table as it is in the files, for values that the form does not show."""
    found = FormValues()
    found.values.update(_read_table(fields, form, before, found))
    return found


def show_form(fields: Sequence[Field], values: object, before: object) -> dict[str, str]:
    """Return what a form shows of the values of a table.

    `before`: the table as it is in the files. What the files alone may tell, such as a secret in plain text, is not
    shown if it is the same there.
    """
    shown: dict[str, str] = {}
    for one, value, old in zip(fields, _list_values(fields, values), _list_values(fields, before), strict=True):
        shown |= _show(one, value, old)
    return shown


def show_again(fields: Sequence[Field], form: Inputs, read: FormValues, before: Mapping[str, Any]) -> dict[str, str]:
    """Return what a form shows that was posted: what cannot be read stays as it is, without secrets."""
    shown = show_form(fields, read.values, before)
    for name in read.mistakes:
        parts = {key: text for key, text in form.items() if is_part(key, name)}
        shown |= {key: text for key, text in parts.items() if not key.endswith(f":{PASTED}")}
    return shown


def is_part(key: str, name: str) -> bool:
    """Return whether an input belongs to the field of this name."""
    return key == name or key.startswith(f"{name}:")


def find_pasted(
    fields: Sequence[Field], form: Inputs, shown: Inputs, folder: str = ""
) -> Iterator[tuple[Field, str, str]]:
    """Yield the field of each secret that was pasted, the name of its inputs before the colon, and the secret.

    The choice need not say so: a secret also counts beside the choice that the form has `shown`, beside none, and
    beside a file in the `folder` of pasted secrets. Beside another choice, it is a mistake of the form.
    """
    for one in flatten(fields):
        names = {FieldControl.SECRET: [one.name], FieldControl.SECRETS: _list_rows(one.name, form)}
        for name in names.get(one.control, ()):
            way, place = (form.get(f"{name}:{part}", "") for part in (WAY, PLACE))
            is_meant = (
                way == PASTED
                or (not way and not place)
                or (way == "file" and folder and place.startswith(f"{folder}/"))
                or all(form.get(key, "") == shown.get(key, "") for key in (f"{name}:{WAY}", f"{name}:{PLACE}"))
            )
            if is_meant and (secret := form.get(f"{name}:{PASTED}", "").strip()):
                yield one, name, secret


def refer_to_file(form: Inputs, name: str, path: str) -> dict[str, str]:
    """Return the form with a reference to a file in place of a secret that was pasted."""
    rest = {key: text for key, text in form.items() if key not in (f"{name}:{PASTED}", f"{name}:{KEEP}")}
    return rest | {f"{name}:{WAY}": "file", f"{name}:{PLACE}": path}


def is_same(one: object, other: object) -> bool:
    """Return whether two values are the same in a file. 1, 1.0 and true are three values."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


def _list_values(fields: Sequence[Field], table: object) -> list[Any]:
    """Return the value of each field in a table. The field without a path has what no other field has."""
    given = table if isinstance(table, dict) else {}
    named = {one.path[-1] for one in fields if one.path}
    rest = {key: value for key, value in given.items() if key not in named} or NOT_SET
    return [given.get(one.path[-1], NOT_SET) if one.path else rest for one in fields]


def _read_table(fields: Sequence[Field], form: Inputs, before: object, found: FormValues) -> dict[str, Any]:
    table: dict[str, Any] = {}
    named = {one.path[-1] for one in fields if one.path}
    for one, old in zip(fields, _list_values(fields, before), strict=True):
        value = _read(one, form, old, found)
        if value is NOT_SET:
            continue
        if one.path:
            table[one.path[-1]] = value
        elif not isinstance(value, dict):
            found.mistakes[one.name] = 'write a line for each setting, such as name = "value"'
        elif twice := sorted(value.keys() & named):
            found.mistakes[one.name] = f"{', '.join(twice)}: has a field of its own"
        else:
            table |= value
    return table


def _read(one: Field, form: Inputs, before: object, found: FormValues) -> Any:
    """Return the value of a field, or NOT_SET. Notes what cannot be read."""
    if form.get(f"{one.name}:{KEEP}") and before is not NOT_SET:
        return before
    text = form.get(f"{one.name}:{AS_TOML}", "").strip()
    try:
        return read_toml(text) if text else _read_control(one, form, before, found)
    except ValueError as error:
        found.mistakes[one.name] = str(error)
        return NOT_SET


def _read_control(one: Field, form: Inputs, before: object, found: FormValues) -> Any:
    """Return the value of a field that is not TOML, or NOT_SET. Raises ValueError."""
    text = form.get(one.name, "").strip()
    lines = [line for part in _LINE_END.split(text) if (line := part.strip())]
    if len(lines) > MOST_LINES:
        raise ValueError(f"a field has at most {MOST_LINES:,} lines: write a file")
    value: Any = NOT_SET
    match one.control:
        case FieldControl.TABLE:
            value = _read_table(one.inner, form, before, found) or NOT_SET
        case FieldControl.TEXT | FieldControl.CHOICE if text:
            value = read_scalar(one.codec, text)
        case FieldControl.LINES | FieldControl.EVENTS if lines:
            value = [read_scalar(one.codec, line) for line in lines]
        case FieldControl.PAIRS if lines:
            value = _read_pairs(one, lines)
        case FieldControl.NAMES:
            names = (form.get(f"{one.name}:{number}", "").strip() for number in range(MOST_NAMES))
            value = [name for name in names if name] or NOT_SET
        case FieldControl.SECRET:
            value = _read_secret(one, one.name, form)
        case FieldControl.SECRETS:
            rows = [_read_secret(one, name, form) for name in _list_rows(one.name, form)]
            value = [row for row in rows if row is not NOT_SET] or NOT_SET
        case FieldControl.START:
            value = _read_start(one, form)
    return value


def _read_pairs(one: Field, lines: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in lines:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not (key and equals):
            raise ValueError("write each line as name = value")
        if key in found:
            raise ValueError(f"{key} is there twice")
        found[key] = read_scalar(one.codec, value)
    return found


def _list_rows(name: str, form: Inputs) -> list[str]:
    """Return the names of the rows of a list of secrets."""
    rows = (f"{name}:{number}" for number in range(MOST_SECRETS))
    return [row for row in rows if f"{row}:{WAY}" in form]


def _read_secret(one: Field, name: str, form: Inputs) -> Any:
    way, place = form.get(f"{name}:{WAY}", ""), form.get(f"{name}:{PLACE}", "").strip()
    pasted = form.get(f"{name}:{PASTED}", "")
    if way == PASTED:
        raise ValueError("the secret was not kept: paste it again" if pasted else "paste the secret")
    if pasted:
        raise ValueError("a secret was pasted, but the choice is another one: it was not kept")
    if way in WAYS:
        if not place:
            raise ValueError(f"write {PLACES.get(way, 'its name')} beside the choice")
        return {way: place}
    if way == IN_FILE and one.takes_text:
        return place or NOT_SET
    if way or place:
        raise ValueError("choose where the secret is")
    return NOT_SET


def _read_start(one: Field, form: Inputs) -> Any:
    way, moment = form.get(f"{one.name}:{WAY}", ""), form.get(f"{one.name}:{PLACE}", "").strip()
    if way in STARTS and moment:
        raise ValueError(f"a time is filled in, but the choice is {way}: empty the time, or choose events since a time")
    if way != TIME and not moment:
        return way or NOT_SET
    if not moment:
        raise ValueError("choose a time")
    return f"{moment}Z" if _MOMENT.fullmatch(moment) else moment


def _show(one: Field, value: Any, before: object) -> dict[str, str]:
    """Return what a field shows of a value."""
    if value is NOT_SET:
        return {}
    keep = {f"{one.name}:{KEEP}": "yes"} if is_same(value, before) and _is_hidden(one.path, value) else {}
    is_table = one.control is FieldControl.TABLE
    shown = show_form(one.inner, value, before) if is_table else keep or _show_control(one, value)
    read = FormValues()
    if _is_posted_as_is(one, shown) and is_same(_read(one, shown, before, read), value) and not read.mistakes:
        return shown
    return keep or {f"{one.name}:{AS_TOML}": write_toml(value)}


def _is_hidden(path: Sequence[str], value: object) -> bool:
    """Return whether a value holds what no page shows."""
    leaves = list_leaves(tuple(path), value)
    return any(isinstance(leaf, str) and show_value(place, leaf) != leaf for place, leaf in leaves)


def _is_posted_as_is(one: Field, shown: Inputs) -> bool:
    """Return whether a browser posts these texts as they are."""
    if one.control is FieldControl.TABLE:
        return True
    has_lines = one.control in (FieldControl.LINES, FieldControl.PAIRS, FieldControl.EVENTS)
    return all(text == escape(text) and (has_lines or "\n" not in text) for text in shown.values())


def _show_control(one: Field, value: Any) -> dict[str, str]:
    """Return texts that may stand for a value. Only `_read` tells whether they do."""
    match one.control:
        case FieldControl.TEXT | FieldControl.CHOICE:
            return {one.name: write_scalar(one.codec, value)}
        case FieldControl.LINES | FieldControl.EVENTS if isinstance(value, list):
            return {one.name: "\n".join(write_scalar(one.codec, entry) for entry in value)}
        case FieldControl.NAMES if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
            return {f"{one.name}:{number}": entry for number, entry in enumerate(value)}
        case FieldControl.PAIRS if isinstance(value, dict):
            return {one.name: "\n".join(f"{key} = {write_scalar(one.codec, part)}" for key, part in value.items())}
        case FieldControl.SECRET:
            return _show_secret(one.name, value)
        case FieldControl.SECRETS if isinstance(value, list):
            rows = [_show_secret(f"{one.name}:{number}", row) for number, row in enumerate(value)]
            return {name: text for row in rows for name, text in row.items()}
        case FieldControl.START if value in STARTS:
            return {f"{one.name}:{WAY}": value}
        case FieldControl.START if isinstance(value, str) and _MOMENT.fullmatch(moment := value.removesuffix("Z")):
            return {f"{one.name}:{WAY}": TIME, f"{one.name}:{PLACE}": moment}
    return {}


def _show_secret(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict) and len(value) == 1:
        ((way, place),) = value.items()
        return {f"{name}:{WAY}": str(way), f"{name}:{PLACE}": str(place)}
    return {f"{name}:{WAY}": IN_FILE, f"{name}:{PLACE}": str(value)}
