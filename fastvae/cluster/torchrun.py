"""`python -m fastvae.cluster.torchrun`: torchrun, with one line instead of its traceback.

The processes print their own errors; the traceback of torchrun, if one fails or it is stopped, adds nothing to them.
"""

from __future__ import annotations

import logging
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> int:
    """Run torchrun with the arguments of the command line; its exit code is 0, or 1 for every failure and stop."""
    # Its warnings and errors are about the processes that it stops, which the line below sums up.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run.main()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        how = f"with exit code {failure.exitcode}"
        if failure.exitcode < 0:
            how = f"by {signal.Signals(-failure.exitcode).name}"
        print(f"torchrun: rank {rank} (process {failure.pid}) ended first, {how}", file=sys.stderr)
        return 1
    except SignalException as error:
        print(f"torchrun: stopped by {signal.Signals(error.sigval).name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
