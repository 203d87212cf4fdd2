from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from fastvae.ops import noise_key, philox_integers, philox_normal, philox_uniform, philox_uniform_at, reference
from tests.ops.cases import threads

ONES = 0xFFFFFFFF
# Random123, tests/kat_vectors: counter, key, output.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
# Key (42, 0): block (column // 4), row, the block's four words.
LAYOUT = [
    (1, 0, (0xFCDB2127, 0x53BA6CFD, 0x838F5A6E, 0x744E06FB)),
    (0, 1, (0x42E0B8B3, 0x7DBF5DE8, 0x2FE739D4, 0x6AAF03EB)),
    (0, 2**32, (0x02933769, 0x2051E913, 0x3B68B038, 0xB62C409C)),
]


def tensors(words: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(word) for word in words)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_random123_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    assert tuple(word.item() for word in reference.philox4x32_10(tensors(counter), tensors(key))) == answer  # type: ignore[arg-type]


def test_the_operator_gives_the_first_known_answer() -> None:
    # The others have columns beyond any tensor; the layout below covers the position of each word.
    assert tuple(philox_integers(noise_key(0), 1, 4)[0].tolist()) == KNOWN_ANSWERS[0][2]


@pytest.mark.parametrize(("block", "row", "answer"), LAYOUT)
def test_row_and_column_are_words_of_the_counter(block: int, row: int, answer: tuple[int, ...]) -> None:
    words = philox_integers(noise_key(42, 0, row), 1, 4 * block + 4)
    assert tuple(words[0, 4 * block :].tolist()) == answer


def test_seed_step_and_stream_are_separate_words() -> None:
    for key, stream in [((5, 6), 7), ((ONES, ONES), ONES), ((2**31, 0), 2**31)]:
        expected = reference.philox4x32_10(tensors((0, 3, 0, stream)), tensors(key))  # type: ignore[arg-type]
        words = philox_integers(noise_key(*key, 3), 1, 4, stream=stream)
        assert words[0].tolist() == [word.item() for word in expected]


def test_rows_continue_past_32_bits() -> None:
    across = philox_integers(noise_key(1, 2, 2**32 - 2), 4, 5)
    for i in range(4):
        assert torch.equal(across[i], philox_integers(noise_key(1, 2, 2**32 - 2 + i), 1, 5)[0])


def test_ranks_steps_and_streams_never_share_a_counter() -> None:
    keys = [noise_key(1, step, rank * 16) for step in range(3) for rank in range(4)]
    words = [philox_integers(key, 16, 8, stream=stream).view(-1, 4) for key in keys for stream in (0, 1, 1 << 24)]
    blocks = torch.cat(words)
    assert len(torch.unique(blocks, dim=0)) == len(blocks)


def float64_normals(words: Tensor) -> np.ndarray:
    """Box-Muller in NumPy's float64 on the words [rows, 4 n]."""
    u = (words.numpy().astype(np.float64) + 0.5) * 2.0**-32
    one_minus_u = (ONES - words.numpy() + 0.5) * 2.0**-32
    log_u = np.where(u < 0.5, np.log(u), np.log1p(-one_minus_u))
    radius, angle = np.sqrt(-2 * log_u[:, 0::2]), 2 * np.pi * u[:, 1::2]
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1).reshape(words.shape)


def test_normals_against_float64_on_the_same_integers() -> None:
    key = noise_key(3, 1, 4)
    noise = philox_normal(key, 2048, 512, stream=9)
    truth = float64_normals(philox_integers(key, 2048, 512, stream=9))
    assert np.abs(noise.numpy() - truth).max() <= 1e-5


def test_float64_normals_have_float64_precision() -> None:
    key = noise_key(3, 1, 4)
    noise = reference.philox_normal(key, 64, 12, 0, torch.float64)
    np.testing.assert_allclose(noise.numpy(), float64_normals(philox_integers(key, 64, 12)), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_extreme_words_are_finite(dtype: torch.dtype) -> None:
    extremes = torch.tensor([0, 1, 2**31 - 1, 2**31, ONES - 1, ONES])
    noise = reference.box_muller(extremes[:, None], extremes[None, :], dtype)
    assert noise.isfinite().all()
    assert noise.abs().max().item() == pytest.approx(math.sqrt(2 * 33 * math.log(2)), rel=1e-6)  # 6.764
    smallest = reference.box_muller(torch.tensor(ONES), torch.tensor(0), dtype)[0].item()
    assert smallest == pytest.approx(math.sqrt(2 * 2**-33), rel=1e-6)  # log1p: a plain float32 log gives 0


def test_uniforms_are_the_words_bit_for_bit_and_strictly_inside() -> None:
    key = noise_key(11)
    words = philox_integers(key, 1024, 1024).numpy()
    uniform = philox_uniform(key, 1024, 1024).numpy()
    expected = words.astype(np.float32) * np.float32(2**-32) + np.float32(2**-33)
    assert np.array_equal(uniform, np.minimum(expected, np.float32(1 - 2**-24)))
    assert uniform.min() > 0
    assert uniform.max() < 1


def test_the_largest_word_gives_a_uniform_below_one() -> None:
    key = noise_key(0, 0, 5150801)  # found by search: its first block holds a word that float32 rounds to 2**32
    assert philox_integers(key, 1, 4).max().item() >= ONES - 127
    assert philox_uniform(key, 1, 4).max().item() == 1 - 2**-24


@pytest.fixture(scope="module")
def draws() -> Tensor:
    return philox_normal(noise_key(2024), 4096, 4096)  # 2**24


def score(values: Tensor, mean: float, variance: float) -> float:
    return (values.double().mean().item() - mean) / math.sqrt(variance / values.numel())


def test_moments_and_correlations(draws: Tensor) -> None:
    first, second = draws[:, 0::2], draws[:, 1::2]  # the two of a Box-Muller pair
    scores = {
        "mean": score(draws, 0, 1),
        "variance": score(draws.square(), 1, 2),
        "skewness": score(draws**3, 0, 15),
        "kurtosis": score(draws**4, 3, 96),
        "lag 1 in a row": score(draws[:, :-1] * draws[:, 1:], 0, 1),
        "lag 4 in a row": score(draws[:, :-4] * draws[:, 4:], 0, 1),
        "from row to row": score(draws[:-1] * draws[1:], 0, 1),
        "in a pair": score(first * second, 0, 1),
        "squares in a pair": score((first.square() - 1) * (second.square() - 1), 0, 4),
    }
    assert all(abs(value) < 5 for value in scores.values()), scores


def test_tails(draws: Tensor) -> None:
    for threshold in (4.0, 5.0):
        expected = draws.numel() * 2 * stats.norm.sf(threshold)
        count = (draws.abs() > threshold).sum().item()
        assert abs(count - expected) < 5 * math.sqrt(expected), threshold
    assert draws.abs().max().item() < 6.77


def test_kolmogorov_smirnov_and_anderson_darling(draws: Tensor) -> None:
    values = np.sort(draws[:256].numpy().astype(np.float64), axis=None)
    assert stats.kstest(values, "norm").pvalue > 1e-6
    n = len(values)
    weights = (2 * np.arange(1, n + 1) - 1) / n
    a2 = -n - np.sum(weights * (stats.norm.logcdf(values) + stats.norm.logsf(values[::-1])))
    # The statistic's limit is sum_j chi2_j / (j (j + 1)); in its tail the first term rules: p = sqrt(3) P(chi2 > 2 a2).
    assert math.sqrt(3) * stats.chi2.sf(2 * a2, 1) > 1e-6


def test_normals_are_written_into_a_given_tensor() -> None:
    out = torch.full((33, 51), torch.nan)
    assert philox_normal(noise_key(1, 2, 3), 33, 51, stream=4, out=out) is out
    assert torch.equal(out, philox_normal(noise_key(1, 2, 3), 33, 51, stream=4))
    torch.library.opcheck(
        torch.ops.fastvae.philox_normal_.default,
        (out, noise_key(1), 4),
        test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
    )


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (torch.zeros(3, 4).double(), TypeError, "out must be float32, got torch.float64; convert the noise afterwards"),
        (torch.zeros(4, 3).t(), ValueError, "out must have shape [3, 4] and be contiguous, got [3, 4]; leave it out"),
        (torch.zeros(3, 5), ValueError, "out must have shape [3, 4] and be contiguous, got [3, 5]; leave it out"),
        (torch.zeros(3, 4, device="meta"), ValueError, "out must be on the key's device cpu, got meta; move one"),
        (torch.zeros(3, 4).requires_grad_(), ValueError, "out is overwritten and gets no gradient; give out.detach()"),
    ],
)
def test_an_invalid_output_tensor_is_refused(out: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        philox_normal(noise_key(1), 3, 4, out=out)
    assert str(caught.value).startswith(f"philox_normal: {message}")


@pytest.mark.parametrize("draw", [philox_normal, philox_uniform, philox_integers])
class TestEveryDraw:
    def test_bits_do_not_depend_on_the_split(self, draw) -> None:
        whole = draw(noise_key(1, 2, 10), 37, 13, stream=3)
        parts = [draw(noise_key(1, 2, 10 + start), rows, 13, stream=3) for start, rows in ((0, 1), (1, 30), (31, 6))]
        assert torch.equal(torch.cat(parts), whole)
        for columns in (0, 1, 2, 3, 5, 12):
            assert torch.equal(draw(noise_key(1, 2, 10), 37, columns, stream=3), whole[:, :columns])

    def test_bits_do_not_depend_on_threads_or_repetition(self, draw) -> None:
        with threads(1):
            one = draw(noise_key(5), 300, 301)
        with threads(3):
            assert torch.equal(draw(noise_key(5), 300, 301), one)
        small = draw(noise_key(5), 9, 7)
        assert all(torch.equal(draw(noise_key(5), 9, 7), small) for _ in range(100))

    def test_empty(self, draw) -> None:
        assert draw(noise_key(1), 0, 5).shape == (0, 5)
        assert draw(noise_key(1), 5, 0).shape == (5, 0)

    def test_a_strided_key_is_accepted(self, draw) -> None:
        key = torch.tensor([1, 99, 2, 99, 3, 99])[::2]
        assert torch.equal(draw(key, 3, 5), draw(noise_key(1, 2, 3), 3, 5))

    def test_opcheck(self, draw) -> None:
        operator = getattr(torch.ops.fastvae, draw.__name__).default
        torch.library.opcheck(
            operator,
            (noise_key(1), 5, 6, 7),
            test_utils=("test_schema", "test_faketensor", "test_aot_dispatch_dynamic"),
        )

    def test_compiles_without_a_graph_break(self, draw) -> None:
        torch._dynamo.reset()
        compiled = torch.compile(lambda key: draw(key, 6, 7, stream=2) * 2, fullgraph=True, backend="aot_eager")
        for step in range(2):
            key = noise_key(1, step)
            assert torch.equal(compiled(key), draw(key, 6, 7, stream=2) * 2)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (([1, 2, 3], 2, 2, 0), TypeError, "key must be a Tensor, got list"),
            (
                (torch.zeros(3), 2, 2, 0),
                TypeError,
                "key must be int64, got torch.float32; make it with fastvae.noise_key",
            ),
            (
                (torch.zeros(2, dtype=torch.int64), 2, 2, 0),
                ValueError,
                "key must have shape [3] (seed, step, first_row), got [2]; make it with fastvae.noise_key",
            ),
            ((noise_key(1), -1, 2, 0), ValueError, "rows must be at least 0, got -1"),
            ((noise_key(1), 2, 2.0, 0), TypeError, "columns must be an integer, got float"),
            (
                (noise_key(1), 0, 2**34 + 1, 0),
                ValueError,
                "an example must have at most 2**34 columns of noise, got 17179869185; split it over streams",
            ),
            (
                (noise_key(1), 2, 2, 2**32),
                ValueError,
                "stream must be at least 0 and below 2**32, got 4294967296; make it with fastvae.ops.stream",
            ),
            (
                (noise_key(1), 2, 2, 0.5),
                TypeError,
                "stream must be an integer, got float; make it with fastvae.ops.stream",
            ),
        ],
    )
    def test_invalid_input_is_refused(self, draw, arguments: tuple, error: type[Exception], message: str) -> None:
        key, rows, columns, stream = arguments
        with pytest.raises(error) as caught:
            draw(key, rows, columns, stream=stream)
        assert str(caught.value) == f"{draw.__name__}: {message}"


def test_uniforms_of_single_elements_equal_those_of_all() -> None:
    key = noise_key(7, 3, 2**32 - 2)  # the rows pass a word's end
    rows, columns = torch.tensor([0, 4, 2, 2, 1]), torch.tensor([0, 9, 3, 6, 8], dtype=torch.int32)
    whole = philox_uniform(key, 5, 10, stream=9)
    assert torch.equal(philox_uniform_at(key, rows, columns, stream=9), whole[rows, columns])
    assert philox_uniform_at(key, rows[:0], columns[:0]).shape == (0,)
    with pytest.raises(ValueError, match="columns must have rows' shape"):
        philox_uniform_at(key, rows, columns[:2])
