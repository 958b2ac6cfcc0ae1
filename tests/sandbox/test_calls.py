"""The tally."""

from __future__ import annotations

from syncd.sandbox.calls import CUT, Calls


def test_calls_are_counted_by_whatever_is_asked() -> None:
    """A test can ask how often an API was called without knowing how each call went, or the other way round."""
    calls = Calls()
    calls.note("POST", "/signals", 201)
    calls.note("POST", "/signals", 201)
    calls.note("POST", "/signals", CUT)
    calls.note("GET", "/signals", 200)
    assert calls.count() == 4
    assert calls.count("POST") == 3
    assert calls.count("POST", "/signals", 201) == 2
    assert calls.count(route="/signals", status=CUT) == 1
    assert calls.count("DELETE") == 0
    assert calls.by_status() == {"201": 2, "cut": 1, "200": 1}
