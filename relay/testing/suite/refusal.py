"""Settings that have to be refused."""

from relay.api import Settings
from relay.testing.suite.behaviour import expect


def check_refused(settings: Settings, name: str, value: object) -> None:
    """Fail the behaviour unless a settings model refuses a value, and names the setting."""
    given = settings.model_dump(mode="json", by_alias=True, exclude_unset=True)
    type(settings).model_validate(given)
    try:
        type(settings).model_validate(given | {name: value})
    except ValueError as error:
        expect(name in str(error), f"the mistake does not name {name}: {error}")
    else:
        raise AssertionError(f"{name} = {value!r} is taken")
