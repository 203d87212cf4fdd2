"""A pytest plugin (``-p gpu_pytest``) that prints failures immediately, in case the run is stopped."""

from __future__ import annotations

import os
import sys

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure; with pytest-xdist the controller, which receives all reports, prints them."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}", file=sys.stderr, flush=True)
