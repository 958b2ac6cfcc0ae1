"""What following signals to their outcomes costs in calls, and how soon an outcome is known here.

python -m tests.benchmarks.calls [--records 10000] [--processing 10]
"""

from __future__ import annotations

import argparse
import json
from statistics import median

import sqlalchemy as sa

from tests.benchmarks.destination import destination
from tests.benchmarks.measure import Row, folder, show, survey, syncd, write_survey


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--processing", type=float, nargs="*", default=[2.0, 10.0, 60.0])
    given = parser.parse_args()
    rows = []
    for seconds in given.processing:
        with destination(processing=seconds, latency=0.02) as there, folder() as at:
            write_survey(at, given.records)
            done = syncd("run-once", "--json", "--wait", "300", config=survey(at, there.api_base), at=at)
            assert json.loads(done.stdout)["signals"]["processed"] == given.records, done.stdout
            count = there.count()
            engine = sa.create_engine(f"sqlite:///{at / 'syncd.db'}")
            with engine.connect() as db:
                late = db.scalars(
                    sa.text(
                        "SELECT e.at - s.settled_at FROM signals s JOIN events e ON e.signal_id = s.id "
                        "WHERE e.event = 'processed'"
                    )
                ).all()
            engine.dispose()
        each = (count.posts + count.reads) / given.records
        name = f"processing takes {seconds:g} s"
        rows.append(Row(f"{name}: calls a signal, posts included", each, "", wanted="1.05 at most"))
        rows.append(Row(f"{name}: from processed there to known here", median(late) / 1e6, "s", wanted="under 5"))
    show(f"Calls: {given.records:,} signals through `run-once`", rows)


if __name__ == "__main__":
    main()
