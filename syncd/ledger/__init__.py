"""The ledger: every signal ever seen, where it stands, and where each connector's reading stands.

`tables` names the states, `database` opens and migrates, `ledger` is every write, `report` every read for people.
"""

from syncd.ledger.database import Database
from syncd.ledger.ledger import Answer, Claimed, Ledger, Look, PageTally, Sighting, Waiting
from syncd.ledger.tables import State

__all__ = ["Answer", "Claimed", "Database", "Ledger", "Look", "PageTally", "Sighting", "State", "Waiting"]
