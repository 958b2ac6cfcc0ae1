"""A destination with a limit of calls, one with TLS, and a run with nothing new.

python -m tests.benchmarks.limits [--records 12000] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from time import perf_counter

import trustme

from tests.benchmarks import dispatch
from tests.benchmarks.destination import There, destination
from tests.benchmarks.measure import Row, folder, in_turn, show, survey, syncd, write_survey

LIMIT = 200.0
WARM = 10


def limited(records: int) -> list[Row]:
    """What is used of a limit nobody was told of."""
    with destination(latency=0.02, limit=LIMIT) as there, folder() as at:
        write_survey(at, records)
        syncd("run-once", "--json", "--no-wait", config=survey(at, there.api_base), at=at)
        count = there.count()
    assert count.accepted == records
    assert not count.doubled
    warm = slice(WARM, -1)
    used = sum(count.seconds[warm]) / len(count.seconds[warm])
    refused = sum(count.refusals[warm]) / (sum(count.seconds[warm]) + sum(count.refusals[warm]))
    told = f"hidden limit of {LIMIT:.0f} a second, Retry-After: 1, after {WARM} s"
    return [
        Row(told + ": used", used, "/s", "of the limit", used / LIMIT, "190/s"),
        Row(told + ": posts refused", refused * 100, "%", wanted="2 % at most"),
    ]


def encrypted(records: int, rounds: int) -> Row:
    """Over TLS, against a script that connects anew for each record."""
    with folder() as at:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(at / "ca.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(at / "server.pem")
        os.environ["SSL_CERT_FILE"] = str(at / "ca.pem")
        with destination(trust=str(at / "ca.pem"), certificate=str(at / "server.pem")) as there:
            reached = in_turn(
                rounds,
                syncd=lambda: dispatch.with_syncd(there, records, 16),
                script=lambda: dispatch.with_a_script(there, min(records, 500)),
            )
        del os.environ["SSL_CERT_FILE"]
    ratio = reached["syncd"] / reached["script"]
    return Row("TLS, no latency", reached["syncd"], "/s", f"script {reached['script']:.0f}/s", ratio, "4")


def idle(at: Path, there: There) -> float:
    """Seconds that a run takes when everything is known."""
    began = perf_counter()
    done = syncd("run-once", "--json", config=survey(at, there.api_base), at=at)
    took = perf_counter() - began
    assert json.loads(done.stdout)["posted"] == 0
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rows = limited(given.records)
    rows.append(encrypted(5000, given.rounds))
    with destination(processing=0.5) as there, folder() as at:
        write_survey(at, 2000)
        syncd("run-once", "--json", config=survey(at, there.api_base), at=at)
        seconds = in_turn(given.rounds, idle=lambda: idle(at, there))["idle"]
    rows.append(Row("a run with 2,000 known records, start-up included", seconds, "s", wanted="under 1"))
    show("Limits", rows)


if __name__ == "__main__":
    main()
