"""`make fuzz`: a million changed entries, cursors, results and heartbeats; prints what they met.

`python -m tests.fuzz --inputs 50000 --seed 7` runs fewer, or others. A seed that fails is printed: keep it.
"""

import argparse
import logging
import resource
import sys
import time

from tests.fuzz.targets import Fuzz

INPUTS = 1_000_000
SLICE = 50_000  # inputs of one seed
SECONDS = 1.0  # of CPU, for the slowest input and all that is made of it: changed entries reach ten megabytes
MEGABYTES = 128  # that the process may grow by, from its second slice on: for a moment, by such an entry


def resident() -> float:
    """Return the most memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable()  # each stream logs its first bad entry
    begun, done, slowest, events, refused, base = time.monotonic(), 0, 0.0, 0, 0, 0.0
    seed = options.seed
    while done < options.inputs:
        try:
            report = Fuzz(seed).run(min(SLICE, options.inputs - done))
        except Exception:
            print(f"seed {seed} let something foreign out:", file=sys.stderr)
            raise
        done += report.inputs
        slowest = max(slowest, report.seconds)
        events += report.events
        refused += report.refused
        base = base or resident()
        print(
            f"seed {seed:3}  {done:9,} inputs  {events:11,} events  {refused:9,} refused  "
            f"slowest {slowest * 1e3:6.1f} ms  {resident():5.0f} MB",
            flush=True,
        )
        seed += 1
    grown = resident() - base
    print(f"{done:,} inputs in {time.monotonic() - begun:.0f} s, no foreign exception; grew {grown:.0f} MB")
    return int(slowest > SECONDS or grown > MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
