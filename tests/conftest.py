"""Fixtures of every test: no network beyond this machine, no display, and a header that names the tested backend."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.faults.program import Program, build_shim

os.environ["MPLBACKEND"] = "Agg"


class NetworkUse(RuntimeError):
    """A test tried to connect to another machine."""


def is_local(address: Any) -> bool:
    """Whether a socket address is on this machine."""
    if not isinstance(address, tuple):  # a Unix socket's path
        return True
    host = address[0]
    if host in ("localhost", socket.gethostname(), ""):
        return True
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return False
    return parsed.is_loopback or parsed.is_unspecified


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections to other machines; a test that requires a server starts one on localhost."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        if not is_local(address):
            raise NetworkUse(f"tests use no network, but one connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Seed torch's generator, so that samples of a test do not depend on previous tests."""
    torch.manual_seed(0)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU that torch sees")


def pytest_report_header() -> str:
    from fastvae.ops import _native

    return f"fastvae backend: {'native' if _native.loaded else 'reference'} ({_native.reason})"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program, imported once and forked for each process that a test starts."""
    served = Program.serve(build_shim(tmp_path_factory.mktemp("shim")))
    yield served
    served.close()
