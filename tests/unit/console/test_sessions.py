"""When a session, a link and a pause between tries end, by a clock of the test."""

from ipaddress import ip_address

import pytest

from relay.console.security import sessions
from relay.console.security.sessions import IDLE_S, LONGEST_S, Sessions
from relay.console.security.sign_in import LINK_S, OneTimeLink
from relay.console.security.throttle import PERIOD_S, TRIES, Throttle


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_when_it_is_idle_for_half_an_hour() -> None:
    clock = Clock()
    found = Sessions(clock)
    key, session = found.begin("anna", "secret")
    clock.now = IDLE_S - 1
    assert found.find(key) is session
    clock.now += IDLE_S - 1
    assert found.find(key, is_use=False) is session
    clock.now += 1
    assert found.find(key) is None, "to follow a live page is no use"


def test_a_session_ends_after_twelve_hours_of_use() -> None:
    clock = Clock()
    found = Sessions(clock)
    key, _ = found.begin("anna", "secret")
    while clock.now < LONGEST_S - IDLE_S / 2:
        clock.now += IDLE_S / 2
        assert (found.find(key) is not None) == (clock.now < LONGEST_S)
    clock.now = LONGEST_S
    assert found.find(key) is None


def test_ids_and_tokens_have_256_random_bits() -> None:
    made = [Sessions().begin("anna", "secret") for _ in range(10)]
    texts = {key for key, _ in made} | {session.token for _, session in made}
    assert len(texts) == 20
    assert {len(text) for text in texts} == {43}


def test_the_session_used_the_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MOST", 2)
    clock = Clock()
    found = Sessions(clock)
    keys = []
    for clock.now in (0.0, 1.0):
        keys.append(found.begin("anna", "secret")[0])
    clock.now = 2.0
    found.find(keys[0])
    keys.append(found.begin("anna", "secret")[0])
    assert [found.find(key) is not None for key in keys] == [True, False, True]


def test_a_link_is_good_once_and_for_ten_minutes() -> None:
    clock = Clock()
    link, late = OneTimeLink(clock), OneTimeLink(clock)
    key = link.key
    assert not link.use("")
    assert not link.use(key[:-1])
    assert link.use(key)
    assert not link.use(key)
    assert not link.use("")
    clock.now = LINK_S
    assert not late.use(late.key)


def test_tries_are_limited_for_each_address_and_for_each_ipv6_network() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    same, other = (ip_address(f"2001:db8::{number}") for number in (1, 2))
    assert [throttle.count_try(same) for _ in range(TRIES)] == [0.0] * TRIES
    clock.now = 10.0
    assert throttle.count_try(other) == PERIOD_S - 10
    assert throttle.count_try(ip_address("2001:db8:0:1::1")) == 0.0
    assert throttle.count_try("unix") == 0.0
    clock.now = PERIOD_S
    assert throttle.count_try(other) == 0.0, "a refused try does not count"
