"""One cluster for all tests of a pytest process; several processes (pytest -n) each have their own cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, obstacle


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of this folder first, so that one process runs them all.

    ``--dist worksteal`` cuts the list into one piece for each process, and an idle process takes from another's end.
    """
    items.sort(key=lambda item: Path(__file__).parent not in item.path.parents)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    reason = obstacle()
    if reason is not None:
        pytest.skip(reason)
    found = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()
