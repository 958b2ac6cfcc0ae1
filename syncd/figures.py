"""The figures of a run: what it prints, what it stores, and that they add up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from syncd.ledger import State
from syncd.ledger.report import AT_ZENTRIK, RunCounts
from syncd.pull import Pulled
from syncd.records import Json

_CONTRACTED = tuple(state for state in State if state not in (State.DELETED, State.FORGOTTEN))
"""The states that the JSON always names; any other is named when there are signals in it."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Signals that crossed the edge of a run: how many were queued elsewhere, and how many were accepted elsewhere."""

    signals: int = 0
    accepted: int = 0


@dataclass(slots=True)
class Figures:
    """What a run did, as it prints and stores it. The parts add up, whatever happened (`imbalances`).

    `signals` counts the signals it touched by their state. `carried` are those among them that earlier runs had queued,
    or had seen accepted; `passed_on` those it queued or saw accepted itself and another syncd moved on since. `left`
    counts signals of its connectors that it did not touch and that Zentrik has not accepted yet either: their time has
    not come, or another syncd has them in its hands. `redacted` counts what was taken out of those it queued, by kind.
    `waits` says of which connectors the day's budget is spent, and what waits for the next day.
    """

    connectors: dict[str, Pulled] = field(default_factory=dict)
    posted: int = 0
    accepted: int = 0
    signals: dict[State, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    carried: Moved = Moved()
    passed_on: Moved = Moved()
    left: int = 0
    redacted: dict[str, int] = field(default_factory=dict)
    waits: dict[str, str] = field(default_factory=dict)

    def close(self, counts: RunCounts) -> None:
        """Take over what the ledger says of the run at its end: it also has what was stored as the run was cut off."""
        self.signals = counts.signals
        self.accepted = max(self.accepted, counts.accepted)
        self.carried = Moved(counts.touched - counts.queued, counts.at_zentrik - counts.accepted)
        self.passed_on = Moved(self.new - counts.queued, self.accepted - counts.accepted)

    @property
    def new(self) -> int:
        """Records that no run had seen before."""
        return sum(pulled.new for pulled in self.connectors.values())

    def imbalances(self) -> Iterator[str]:
        """Every sum that does not come out, in words. There is none, or syncd has a defect."""
        sums = [
            (
                f"{name}: fetched = new + changed + unchanged + skipped",
                pulled.shown,
                pulled.new + pulled.changed + pulled.unchanged + pulled.skipped,
            )
            for name, pulled in self.connectors.items()
        ]
        at_zentrik = sum(self.signals[state] for state in AT_ZENTRIK)
        sums += [
            (
                "new + carried = signals + passed on",
                self.new + self.carried.signals,
                sum(self.signals.values()) + self.passed_on.signals,
            ),
            (
                "accepted + carried = processing + processed + failed + deleted + passed on",
                self.accepted + self.carried.accepted,
                at_zentrik + self.passed_on.accepted,
            ),
        ]
        yield from (f"{words}: {left} is not {right}" for words, left, right in sums if left != right)
        for name, moved in (("carried", self.carried), ("passed on", self.passed_on)):
            if moved.signals < 0 or moved.accepted < 0:
                yield f"{name}: {moved.signals} signals, {moved.accepted} accepted; neither can be less than none"

    def as_json(self) -> dict[str, Json]:
        """The object that `run-once --json` prints."""
        return {
            "connectors": {
                name: {
                    "fetched": pulled.fetched,
                    "new": pulled.new,
                    "changed": pulled.changed,
                    "unchanged": pulled.unchanged,
                    "skipped": pulled.skipped,
                    "error": {"code": pulled.error[0], "message": pulled.error[1]} if pulled.error else None,
                    **({"backfill": pulled.backfill.as_json()} if pulled.backfill else {}),
                }
                for name, pulled in self.connectors.items()
            },
            "posted": self.posted,
            "accepted": self.accepted,
            "signals": {str(state): number for state, number in self.signals.items() if number or state in _CONTRACTED},
            **{
                name: {"signals": moved.signals, "accepted": moved.accepted}
                for name, moved in (("carried", self.carried), ("passedOn", self.passed_on))
                if moved != Moved()
            },
            **({"left": self.left} if self.left else {}),
            **({"redacted": self.redacted} if self.redacted else {}),
            **({"waits": dict(self.waits)} if self.waits else {}),
        }

    @property
    def is_clean(self) -> bool:
        """Whether all that was asked for is done: no connector stopped, nothing failed, nothing left unposted."""
        undone = (State.FAILED, State.REJECTED, State.QUEUED, State.SENDING, State.UNKNOWN)
        stopped = any(pulled.error for pulled in self.connectors.values())
        return not (stopped or self.left or any(self.signals[state] for state in undone))


def halted(name: str, why: str) -> str:
    """What is said of a connector that nothing is posted of."""
    return (
        f"{why}, so no more of {name} is posted; its records wait. `syncd signals --state rejected --connector {name}` "
        f"says why they were refused. Mend its settings, or `syncd retry --connector {name}` goes on as it is"
    )
