"""Limits over a window of time, in all and by identity."""

from collections import Counter, deque
from collections.abc import Sequence


class RateWindow:
    """What came in the last so many seconds, counted. What did not fit is not."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: deque[tuple[float, str]] = deque()
        self._counts: Counter[str] = Counter()
        self.most = 0
        """What one window held at most, or would have held."""
        self.most_of_one = 0
        """The same of one identity."""

    def fits(self, identities: Sequence[str], now: float, *, most: float, most_of_one: float) -> bool:
        """Count these, if the window then holds no more than allowed; tell whether it does."""
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
