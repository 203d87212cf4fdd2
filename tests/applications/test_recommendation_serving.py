"""A recommender in programs: many users at once, and the exported scorer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import fastvae
from fastvae import cli
from fastvae.applications.recommendation import Recommender
from fastvae.run import export_program
from tests.benchmarks.test_app_tables_and_users import write_ratings

USERS = [["0", "3", "21"], ["40"], ["5", "5", "59"]]
NUM = 7


@pytest.fixture(scope="module", params=["recommender", "movielens-100k-dae"])
def run_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    path = write_ratings(folder / "ratings.csv")
    words = ["train", request.param, f"--run-dir={folder / 'run'}", f"--data.path={path}", "--train.steps=20"]
    words += ["--data.interactions.min-rating=None", "--model.hidden-dim", "16", "--model.latent-dim=4"]
    assert cli.main(words) == 0
    return folder / "run"


@pytest.fixture
def recommender(run_dir: Path) -> Recommender:
    return Recommender.of_run(fastvae.load(run_dir))


def together(blocks: Any) -> tuple[np.ndarray, np.ndarray]:
    ids, scores = zip(*blocks, strict=True)
    return np.concatenate(ids), np.concatenate(scores)


def test_many_users_get_what_each_alone_gets(recommender: Recommender) -> None:
    ids, scores = together(recommender.top(USERS, NUM, block=2))
    assert ids.shape == scores.shape == (3, NUM)
    for user, found, probabilities in zip(USERS, ids, scores, strict=True):
        alone = recommender.recommend([f"id={item}" for item in user], NUM)
        assert [s.id for s in alone] == found.tolist()
        np.testing.assert_allclose([s.score for s in alone], probabilities, rtol=1e-5)
        assert set(user).isdisjoint(found)
    columns = {item: place for place, item in enumerate(recommender.catalogue.ids)}
    matrix = scipy.sparse.lil_matrix((3, len(columns)))
    for row, user in enumerate(USERS):
        matrix[row, [columns[item] for item in user]] = 4.0
    same, _ = together(recommender.top(matrix, NUM))
    assert (same == ids).all()
    everything, probabilities = together(recommender.top(USERS[:1], len(columns)))
    assert set(everything[0, -3:]) == set(USERS[0])
    assert (probabilities[0, -3:] == -np.inf).all()


def test_unknown_items_and_other_catalogues_are_refused(recommender: Recommender) -> None:
    with pytest.raises(ValueError, match="user 1 has item 'new', which is not in the catalogue; leave it out"):
        together(recommender.top([["0"], ["3", "new"]]))
    with pytest.raises(ValueError, match="must have 60 columns, the items of the catalogue, got 59"):
        together(recommender.top(scipy.sparse.csr_matrix((2, 59))))
    with pytest.raises(ValueError, match=r"num must be in 1 \.\. 60"):
        recommender.top(USERS, 0)
    with pytest.raises(ValueError, match="user 1 has no items; leave the user out"):
        together(recommender.top([["0"], [], ["3"]]))
    for users in (["0", "3"], "0", np.zeros((2, 60))):
        with pytest.raises(TypeError, match="a list with a list of IDs for each user"):
            recommender.top(users)


def known_items(recommender: Recommender) -> torch.Tensor:
    places = {item: place for place, item in enumerate(recommender.catalogue.ids)}
    rows = [[places[item] for item in user] for user in USERS]
    return torch.tensor([row + [-1] * (4 - len(row)) for row in rows])


def test_the_exported_scorer_agrees(run_dir: Path, recommender: Recommender) -> None:
    program = export_program(fastvae.load(run_dir), "scorer", num=NUM)
    assert (program.inputs, program.outputs) == (("known",), ("items", "probabilities"))
    assert not [node for node in program.exported.graph.nodes if "fastvae" in str(node.target)]
    with torch.no_grad():
        places, scores = program.exported.module()(known=known_items(recommender))
        with pytest.raises((RuntimeError, IndexError)):
            program.exported.module()(known=torch.tensor([[60]]))  # the catalogue has 60 items
    check(recommender, places.numpy(), scores.numpy())


def check(recommender: Recommender, places: np.ndarray, scores: np.ndarray) -> None:
    ids, probabilities = together(recommender.top(USERS, NUM))
    assert (np.asarray(recommender.catalogue.ids)[places] == ids).all()
    np.testing.assert_allclose(scores, probabilities, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_files_of_the_scorer_agree_and_hold_the_catalogue(
    run_dir: Path, recommender: Recommender, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    for kind in ("onnx", "pt2"):
        words = ["export", str(run_dir), f"--to={tmp_path / f'top.{kind}'}", f"--format={kind}", "--part=scorer"]
        assert cli.main([*words, f"--num={NUM}"]) == 0
    known = known_items(recommender)
    session = onnxruntime.InferenceSession(str(tmp_path / "top.onnx"))
    check(recommender, *session.run(None, {"known": known.numpy()}))
    catalogue = json.loads(session.get_modelmeta().custom_metadata_map["catalogue"])
    assert tuple(catalogue["ids"]) == recommender.catalogue.ids
    extra = {"fastvae.json": ""}
    program = torch.export.load(tmp_path / "top.pt2", extra_files=extra).module()
    with torch.no_grad():
        check(recommender, *(each.numpy() for each in program(known=known)))
    assert json.loads(json.loads(extra["fastvae.json"])["catalogue"]) == catalogue
