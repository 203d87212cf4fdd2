"""Prefetching: the same batches in the same order, for each method of copying them to the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from fastvae.data import Data, Loader, LoadError, Prefetcher, Preprocess, TextDataConfig, as_data, condition_on
from fastvae.data.interactions.recommendation import interaction_data
from fastvae.data.interactions.source import InteractionSource
from fastvae.data.loading.staging import Layout, PinnedCopies, each_tensor, tensors_in
from fastvae.data.preprocess import Preprocessor
from fastvae.data.source import Source, TensorSource
from fastvae.data.text.corpus import Corpus
from fastvae.data.text.sentences import text_data
from fastvae.ops import noise_key
from fastvae.records import Batch

CPU = torch.device("cpu")


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Traced:
    """Copies on the CPU that record when they start and when they are requested."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sent = 0

    def send(self, tensors: Sequence[Tensor]) -> Callable[[], list[Tensor]]:
        number, copies = self.sent, [tensor.clone() for tensor in tensors]
        self.sent += 1
        self.calls.append(f"send {number}")

        def receive() -> list[Tensor]:
            self.calls.append(f"receive {number}")
            return copies

        return receive


def pixels(num: int = 40) -> Data:
    examples = torch.randint(256, (num, 6), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    data = as_data((examples, torch.arange(num) % 3), binarize="dynamic")
    return condition_on(data, ("label",))


def sentences() -> Data:
    lines = tuple("a bb ccc dddd e"[: 3 + 2 * (row % 6)] for row in range(60))
    return text_data("text", Corpus(lines), Corpus(lines[:4]), TextDataConfig(min_frequency=1))


def users() -> Data:
    counts = (torch.rand(30, 9, generator=torch.Generator().manual_seed(1)) < 0.4).nonzero(as_tuple=True)
    source = InteractionSource.from_pairs(*counts, 30, 9)
    return interaction_data("users", source, source, {})


def loader_of(data: Data, source: Source | None = None, preprocess: Preprocessor | None = None) -> Loader:
    return Loader(
        source or data.train, preprocess or data.preprocess, global_batch_size=10, seed=5, accumulation=3, device=CPU
    )


def fields_of(batch: Batch) -> list[Tensor]:
    return tensors_in(batch)


@pytest.mark.parametrize("make", [pixels, sentences, users])
@pytest.mark.parametrize("ahead", [True, False])
def test_prefetched_batches_equal_those_of_the_loader(make: Callable[[], Data], ahead: bool) -> None:
    loader = loader_of(make())
    with Prefetcher(loader, 3, 9, copies=Traced() if ahead else None) as batches:
        taken = list(batches)
    assert len(taken) == 6
    for step, found in enumerate(taken, start=3):
        for micro, expected in zip(found, loader.load(step), strict=True):
            assert (micro.first_row, micro.size) == (expected.first_row, expected.size)
            assert torch.equal(micro.key, expected.key)
            for tensor, same in zip(fields_of(micro.batch), fields_of(expected.batch), strict=True):
                assert torch.equal(tensor, same)


def test_two_steps_are_prefetched_while_one_is_used() -> None:
    copies = Traced()
    batches = Prefetcher(loader_of(pixels()), 0, 5, copies=copies)
    assert copies.calls == []
    for _ in batches:
        copies.calls.append("step")
    assert copies.calls == [
        *("send 0", "send 1", "send 2", "receive 0", "step"),
        *("send 3", "receive 1", "step"),
        *("send 4", "receive 2", "step"),
        *("receive 3", "step", "receive 4", "step"),
    ]


def test_an_early_end_leaves_no_prefetched_batches() -> None:
    copies = Traced()
    with Prefetcher(loader_of(pixels()), 0, 100, copies=copies) as batches:
        next(batches)
    assert list(batches) == []
    assert copies.sent == 3


class Broken(TensorSource):
    """A source whose example 7 cannot be read."""

    error: Exception = OSError("input/output error")

    def __getitem__(self, indices: Tensor) -> Tensor:
        if (indices == 7).any():
            raise self.error
        return super().__getitem__(indices)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(("error", "raised"), [(OSError("no disk"), LoadError), (KeyError("x"), RuntimeError)])
def test_a_loading_error_is_raised_at_its_step(
    ahead: bool, error: Exception, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "error", error)
    loader = loader_of(pixels(), Broken(torch.rand(40, 6)), Preprocess())
    broken = next(step for step in range(4) if 7 in loader.indices(step))
    batches = Prefetcher(loader, 0, 10, copies=Traced() if ahead else None)
    for _ in range(broken):
        next(batches)
    with pytest.raises(
        raised, match=rf"batch of step {broken + 1} could not be loaded: {type(error).__name__}"
    ) as said:
        next(batches)
    assert said.value.__cause__ is error
    assert list(batches) == []


@dataclass(frozen=True)
class Record:
    first: Tensor
    second: tuple[Tensor, None]
    name: str = "kept"


def test_records_are_flattened_and_restored() -> None:
    record = {"a": [Record(torch.ones(2), (torch.zeros(3), None))], "b": 3}
    assert [len(tensor) for tensor in tensors_in(record)] == [2, 3]
    doubled = each_tensor(record, lambda tensor: tensor + 1)
    assert doubled["b"] == 3
    assert doubled["a"][0].name == "kept"
    assert torch.equal(doubled["a"][0].second[0], torch.ones(3))


def test_a_named_tuple_is_restored() -> None:
    pair = each_tensor(Pair(torch.ones(2), torch.zeros(3)), lambda tensor: tensor + 1)
    assert isinstance(pair, Pair)
    assert torch.equal(pair.second, torch.ones(3))


def test_a_record_that_cannot_be_flattened_is_refused() -> None:
    class Opaque:
        def to(self, device: object) -> Opaque:
            return self

    with pytest.raises(TypeError, match=r"a dataclass of tensors.* got Opaque; make it a dataclass"):
        tensors_in([Opaque()])


def test_tensors_of_all_kinds_share_one_buffer() -> None:
    tensors = [torch.rand(3, 5), torch.tensor(True), torch.empty(0, 4), torch.arange(7), noise_key(3, 4, 5)]
    tensors += [torch.rand(4, 6).bfloat16().T]
    layout = Layout.of(tensors)
    buffer = torch.empty(layout.num_bytes, dtype=torch.uint8)
    for view, tensor in zip(layout.views(buffer), tensors, strict=True):
        view.copy_(tensor)
    for view, tensor in zip(layout.views(buffer), tensors, strict=True):
        assert (view.dtype, view.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(view, tensor)
        assert view.data_ptr() == 0 or (view.data_ptr() - buffer.data_ptr()) % 256 == 0


class Streams:
    """Record the CUDA calls of `PinnedCopies`, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.current = "current"
        empty, to = torch.empty, Tensor.to

        def pinned(*size: Any, pin_memory: bool = False, **options: Any) -> Tensor:
            self.calls += ["pinned memory"] if pin_memory else []
            return empty(*size, **options)

        def copied(tensor: Tensor, device: Any, *, non_blocking: bool = False) -> Tensor:
            self.calls.append(f"copy on {self.current}" + (", not waited for" if non_blocking else ""))
            return to(tensor, device).clone()

        monkeypatch.setattr(torch, "empty", pinned)
        monkeypatch.setattr(Tensor, "to", copied)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: self.calls.append(f"kept for {stream}"))
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(self, "side"))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream(self, "current"))
        monkeypatch.setattr(torch.cuda, "stream", self.on)

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self.current = str(stream)
        yield
        self.current = "current"


class Stream:
    def __init__(self, streams: Streams, name: str) -> None:
        self._streams, self._name = streams, name

    def __str__(self) -> str:
        return self._name

    def record_event(self) -> str:
        self._streams.calls.append(f"event on {self._name}")
        return "event"

    def wait_event(self, event: str) -> None:
        self._streams.calls.append(f"{self._name} waits for {event}")


def test_copies_use_a_side_stream_that_the_device_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    tensors = [torch.arange(5), torch.ones(2, 3)]
    receive = PinnedCopies(CPU).send(tensors)
    assert streams.calls == ["pinned memory", "copy on side, not waited for", "event on side"]
    tensors[0].zero_()  # the source may change after the copy
    arrived = receive()
    assert streams.calls[3:] == ["current waits for event", "kept for current"]
    assert torch.equal(arrived[0], torch.arange(5))
    assert torch.equal(arrived[1], torch.ones(2, 3))


@pytest.mark.gpu
@pytest.mark.parametrize("make", [pixels, sentences, users])
def test_prefetched_batches_on_a_gpu_equal_those_of_the_cpu(make: Callable[[], Data]) -> None:
    data = make()
    on_gpu, on_cpu = (
        Loader(data.train, data.preprocess, global_batch_size=10, seed=5, device=device)
        for device in (torch.device("cuda", 0), CPU)
    )
    for step, found in enumerate(Prefetcher(on_gpu, 0, 20)):
        for micro, expected in zip(found, on_cpu.load(step), strict=True):
            for tensor, same in zip(fields_of(micro.batch), fields_of(expected.batch), strict=True):
                assert tensor.device.type == "cuda"
                assert torch.equal(tensor.cpu(), same)
