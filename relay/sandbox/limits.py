"""Rate limits over a window of time: of all events, and of each identity."""

from collections import Counter, deque
from collections.abc import Sequence


class RateWindow:
    """Counts the events of the last seconds. Events that did not fit are not counted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: deque[tuple[float, str]] = deque()
        self._counts: Counter[str] = Counter()
        self.most = 0
        """The largest count of a window, events that did not fit included."""
        self.most_of_one = 0
        """The largest count of an identity in a window, events that did not fit included."""

    def fits(self, identities: Sequence[str], now: float, *, most: float, most_of_one: float) -> bool:
        """Count events by their identities, if the window keeps to both limits. Return whether it does."""
        while self._entries and self._entries[0][0] <= now - self._seconds:
            self._counts[self._entries.popleft()[1]] -= 1
        new = Counter(identities)
        total, of_one = len(self._entries) + len(identities), max([0, *(self._counts[one] + new[one] for one in new)])
        self.most, self.most_of_one = max(self.most, total), max(self.most_of_one, of_one)
        if total > most or of_one > most_of_one:
            return False
        self._entries.extend((now, identity) for identity in identities)
        self._counts.update(new)
        return True
