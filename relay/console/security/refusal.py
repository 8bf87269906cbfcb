"""The refusal of a request: an HTTP status and a sentence for the user."""

from collections.abc import Mapping, Sequence


class ConsoleRefusal(Exception):
    """Raised to refuse a request. The reason holds nothing that the browser sent, but the names of users.

    `links`: where the user may go on: path and text.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        *,
        links: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers, self.links = status, reason, headers or {}, links


class SignInNeeded(Exception):
    """Raised for a request without a session. `back`: the page to show after the user has signed in."""

    def __init__(self, back: str) -> None:
        super().__init__(back)
        self.back = back
