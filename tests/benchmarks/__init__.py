"""How fast and how frugal syncd is, as ratios against a baseline that is measured in the same run.

`python -m tests.benchmarks.NAME` runs one of them and prints its table; docs/performance.md has the results. They are
no part of the test suite: what they show depends on the machine, and a machine that does something else besides shows
nothing.
"""
