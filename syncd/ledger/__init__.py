"""The ledger: every signal ever seen, where it stands, and where each connector's reading stands.

`tables` names the states, `database` opens and migrates, `presence` shows which runs are alive. `ledger` is every
write; what it does stands in `pages` (reading), `posts` (posting), `tempo` (how fast), `outcomes` (following),
`revisions` (edits and deletions at the source), `matching` (comparing with Zentrik) and `events` (the history); what
these share of SQL is `statements`. `copy` moves a ledger to another database. `report` is every read for people.
"""

from syncd.ledger.database import Database
from syncd.ledger.ledger import Leases, Ledger
from syncd.ledger.outcomes import Look, Waiting
from syncd.ledger.pages import PageTally
from syncd.ledger.posts import Answer, Claimed, Closed, Exchanged, Lost, Sighting
from syncd.ledger.tables import Lane, State
from syncd.ledger.tempo import TooFast

__all__ = [
    "Answer",
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
    "State",
    "TooFast",
    "Waiting",
]
