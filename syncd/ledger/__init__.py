"""The ledger: every signal ever seen, where it stands, and where each connector's reading stands.

`tables` names the states, `database` opens and migrates, `presence` shows which runs are alive. `ledger` is every
write; what it does stands in `pages` (reading), `backfills` (reading the past), `posts` (posting), `tempo` (how fast),
`spending` (how much), `outcomes` (following), `revisions` (edits and deletions at the source), `matching` (comparing
with Zentrik), `holds` (waiting for an account), `unsent` (redacting what waits) and `events` (the history); what these
share of SQL is `statements`. `copy` moves a ledger to another database. `report` is every read for people; `tracing`
leads from a signal to its source and back, `worth` weighs the sources.
"""

from syncd.ledger.backfills import Backfill, Slice
from syncd.ledger.database import Database
from syncd.ledger.ledger import Leases, Ledger
from syncd.ledger.outcomes import Look, Waiting
from syncd.ledger.pages import PageTally
from syncd.ledger.posts import Answer, Claimed, Closed, Exchanged, Lost, Sighting
from syncd.ledger.tables import Lane, State
from syncd.ledger.tempo import TooFast

__all__ = [
    "Answer",
    "Backfill",
    "Claimed",
    "Closed",
    "Database",
    "Exchanged",
    "Lane",
    "Leases",
    "Ledger",
    "Look",
    "Lost",
    "PageTally",
    "Sighting",
    "Slice",
    "State",
    "TooFast",
    "Waiting",
]
