"""Folders of shards: examples, their order, the opened files, and refusals."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fastvae.data import Data, DataConfig, Loader, build_data
from fastvae.data.files.index import INDEX
from tests import launching

WORKER = Path(__file__).with_name("shard_worker.py")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def values(count: int, first: int = 0) -> np.ndarray:
    """Return examples [count, 2, 3], each identified by its values."""
    return (np.arange(count * 6, dtype=np.float32) + 6 * first).reshape(count, 2, 3)


def npy_folder(folder: Path, sizes: list[int]) -> Path:
    folder.mkdir()
    first = 0
    for number, size in enumerate(sizes):
        np.save(folder / f"part-{number:03}.npy", values(size, first))
        first += size
    return folder


def npy_bytes(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def tar_folder(folder: Path, sizes: list[int]) -> Path:
    first = 0
    for number, size in enumerate(sizes):
        members = []
        for index in range(first, first + size):
            members += [
                (f"a/{index:06}.json", b"{}"),
                (f"a/{index:06}.npy", npy_bytes(values(1, index)[0])),
                (f"a/{index:06}.cls", f"{index % 7}\n".encode()),
            ]
        write_tar(folder / f"part-{number:03}.tar", members)
        first += size
    return folder


def load(path: Path, **settings: object) -> Data:
    return build_data(DataConfig(name="file", path=path, **settings))  # type: ignore[arg-type]


MAKERS: dict[str, Callable[[Path, list[int]], Path]] = {"npy": npy_folder, "tar": tar_folder}


@pytest.mark.parametrize("kind", MAKERS)
def test_examples_come_in_the_order_of_the_shards(tmp_path: Path, kind: str) -> None:
    """Every tenth example is a test example; both parts together contain all examples in order."""
    data = load(MAKERS[kind](tmp_path / "shards", [7, 0, 1, 15]))
    everything = torch.from_numpy(values(23)).unsqueeze(1)  # two axes are an image of one channel
    is_test = torch.arange(23) % 10 == 0
    assert (len(data.train), len(data.test)) == (20, 3)
    assert torch.equal(data.train[torch.arange(20)], everything[~is_test])
    assert torch.equal(data.test[torch.arange(3)], everything[is_test])
    picked = torch.tensor([19, 0, 7, 7])
    assert torch.equal(data.train[picked], everything[~is_test][picked])
    assert data.train[torch.arange(0)].shape == (0, *data.event_shape)


def test_labels_of_tar_shards(tmp_path: Path) -> None:
    data = load(tar_folder(tmp_path / "shards", [12, 11]))
    labels = torch.arange(23) % 7
    assert data.train.labels is not None
    assert torch.equal(data.train.labels, labels[torch.arange(23) % 10 != 0])
    assert data.test.labels is not None
    assert torch.equal(data.test.labels, labels[::10])


def test_images_in_tar_shards(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
    members = []
    for number, image in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "png")
        members.append((f"{number}.png", file.getvalue()))
    write_tar(tmp_path / "shards" / "a.tar", members)
    data = load(tmp_path / "shards", test_every=2)
    assert (data.event_shape, data.train.levels) == ((3, 5, 6), 256)
    assert torch.equal(data.train[torch.arange(2)], torch.from_numpy(pixels[1::2]).permute(0, 3, 1, 2))


@pytest.mark.parametrize("kind", MAKERS)
def test_steps_do_not_depend_on_start_and_number_of_ranks(tmp_path: Path, kind: str) -> None:
    """A loader that starts in the middle, as after a resume, and two ranks together give the same batches."""
    data = load(MAKERS[kind](tmp_path / "shards", [9, 14]))

    def batch(step: int, rank: int = 0, world_size: int = 1) -> torch.Tensor:
        options = {"global_batch_size": 6, "seed": 5, "rank": rank, "world_size": world_size}
        [micro] = Loader(data.train, data.preprocess, **options).load(step)  # type: ignore[arg-type]
        return micro.batch.x

    for step in (0, 4, 3):  # step 3 straddles two epochs
        assert torch.equal(batch(step), torch.cat([batch(step, 0, 2), batch(step, 1, 2)]))


def test_a_start_opens_only_the_required_shards(tmp_path: Path) -> None:
    """Later each rank opens the shards of its own examples only."""
    folders = [
        make(tmp_path / f"{kind}-{len(sizes)}", sizes) for kind, make in MAKERS.items() for sizes in ([30], [10] * 30)
    ]
    for folder in folders:
        load(folder)  # builds the index
    jobs = [(str(folder), rank, 2) for folder in folders for rank in (0, 1)]
    found = json.loads(launching.run([str(WORKER), json.dumps(jobs)]).stdout)
    for kind, (few, _, *ranks) in {"npy": found[:4], "tar": found[4:]}.items():
        assert few["at_start"]
        assert all(path.startswith(f"/{INDEX}/") for path in few["at_start"])
        taken = [{int(x[0]) // 60 for x in rank["x"]} for rank in ranks]  # 60 numbers per shard
        assert taken[0] != taken[1]
        for rank, shards in zip(ranks, taken, strict=True):
            assert rank["at_start"] == few["at_start"]
            opened = {path for path in rank["in_all"] if not path.startswith(f"/{INDEX}/")}
            assert opened == {f"/part-{shard:03}.{kind}" for shard in shards}


def test_the_index_is_rebuilt_only_if_shards_are_added(tmp_path: Path) -> None:
    folder = npy_folder(tmp_path / "shards", [12])
    load(folder)
    made = (folder / INDEX).stat().st_ino
    load(folder)
    assert (folder / INDEX).stat().st_ino == made
    np.save(folder / "part-999.npy", values(3))
    assert len(load(folder).train) == 13
    assert (folder / INDEX).stat().st_ino != made
    assert [path.name for path in folder.iterdir() if "index-" in path.name] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into read-only folders")
def test_the_index_of_a_read_only_folder_is_in_the_cache(tmp_path: Path) -> None:
    folder = npy_folder(tmp_path / "shards", [12])
    folder.chmod(0o555)
    assert len(load(folder).train) == 10
    assert not (folder / INDEX).exists()


def test_a_damaged_index_is_rebuilt(tmp_path: Path) -> None:
    folder = npy_folder(tmp_path / "shards", [12])
    load(folder)
    (folder / INDEX / "table.json").write_text("{")
    assert len(load(folder).train) == 10


def test_the_mean_is_computed_from_a_sample(tmp_path: Path) -> None:
    data = load(npy_folder(tmp_path / "shards", [5000, 5000]))
    mean = data.train_mean
    assert mean is not None
    exact = data.train[torch.arange(len(data.train))].mean(0)
    assert not torch.equal(mean, exact)
    torch.testing.assert_close(mean, exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_changed_shard_is_refused(tmp_path: Path, kind: str) -> None:
    folder = MAKERS[kind](tmp_path / "shards", [12])
    load(folder)
    path = folder / f"part-000.{kind}"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"part-000.{kind}: has \d+ bytes, but had \d+ when the folder was indexed"):
        load(folder).train[torch.arange(3)]


def test_a_nonfinite_number_is_refused(tmp_path: Path) -> None:
    folder = npy_folder(tmp_path / "shards", [5, 7])
    broken = values(7, 5)
    broken[3, 0, 0] = np.nan
    np.save(folder / "part-001.npy", broken)
    data = load(folder)
    with pytest.raises(ValueError, match=r"part-001.npy: every number must be finite, .* in example 3"):
        data.train[torch.arange(len(data.train))]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.asfortranarray(values(3).reshape(3, 6)), "must be in C order"),
        (np.arange(6).reshape(3, 2), "pixels in shards must be uint8"),
        (np.zeros(3, np.float32), "must be \\[n, ...\\]"),
        (np.zeros((3, 5), np.float32), "all shards must be alike"),
        (np.array([["a"]], dtype=object), "pickled Python objects"),
    ],
)
def test_unsuitable_npy_shards_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    folder = npy_folder(tmp_path / "shards", [3])
    np.save(folder / "part-001.npy", array)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_static_binarisation_requires_data_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    np.save(folder / "a.npy", np.zeros((20, 4), np.uint8))
    with pytest.raises(ValueError, match="use binarize=dynamic"):
        load(folder, binarize="static")
    assert load(folder, binarize="dynamic").preprocess.binarize


GOOD = npy_bytes(values(1)[0])


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match=r"hostile\.tar") as caught:
        load(folder)
    assert not (folder / INDEX).exists()
    return str(caught.value)


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1024 + len(GOOD) // 2])
def test_a_truncated_tar_is_refused(tmp_path: Path, cut: int) -> None:
    path = write_tar(tmp_path / "t" / "hostile.tar", [(f"{number}.npy", GOOD) for number in range(2)])
    size = 2 * (512 + -(-len(GOOD) // 512) * 512)
    path.write_bytes(path.read_bytes()[: size - cut])
    refused(tmp_path / "t")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = write_tar(tmp_path / "t" / "hostile.tar", [("0.npy", GOOD)])
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("1.npy")
        link.type, link.linkname = kind, "/etc/passwd"
        archive.addfile(link)
    assert "must be a plain file" in refused(tmp_path / "t")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../../0.npy", GOOD)], "its name points outside the archive"),
        ([("/0.npy", GOOD)], "its name points outside the archive"),
        ([("0.npy", GOOD), ("0.png", GOOD)], "'0' has two examples, '0.npy' and '0.png'"),
        ([("0.npy", GOOD), ("0.cls", b"seven")], "a label is a whole number >= 0, got b'seven'"),
        ([("0.npy", b"no array")], "not an image"),
        ([("0.npy", npy_bytes(np.array([{}], dtype=object)))], "pickled Python objects"),
    ],
)
def test_invalid_members_of_a_tar_are_refused(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "t" / "hostile.tar", members)
    assert message in refused(tmp_path / "t")


def test_a_member_size_beyond_the_file_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "t" / "hostile.tar", [("0.npy", GOOD)])
    header = tarfile.TarInfo("0.npy")
    header.size = 2**40
    path.write_bytes(header.tobuf() + path.read_bytes()[512:])
    assert "more than the file of" in refused(tmp_path / "t")


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    with tarfile.open(tmp_path / "t" / "hostile.tar", "w:gz") as archive:
        archive.add(WORKER, "0.npy")
    assert "compressed archives cannot be read at random" in refused(tmp_path / "t")


def test_an_example_of_another_shape_is_refused_when_it_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    write_tar(folder / "a.tar", [("0.npy", GOOD), ("1.npy", GOOD), ("2.npy", npy_bytes(np.zeros(3, np.float32)))])
    data = load(folder, test_every=2)
    with pytest.raises(
        ValueError, match=r"a\.tar, example 2: all examples must have the same shape and type, \[2, 3\] of <f4"
    ):
        data.test[torch.arange(2)]
