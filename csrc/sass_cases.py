"""The kernels that move whole tensors, and for each the thread whose path csrc/sass_counts.py counts."""

from __future__ import annotations

from dataclasses import dataclass

from sass_path import Moved, Wanted

WARP = 32
SIZES = {"float": 4, "double": 8, "BFloat16": 2, "Float16": 2}
NAMES = {"float": "float32", "double": "float64", "BFloat16": "bfloat16", "Float16": "float16"}
ALL = tuple(SIZES)


def pack_of(dtype: str) -> int:
    """Columns of a pack."""
    return 8 if SIZES[dtype] == 2 else 4


def _bytes(letters: str, dtype: str) -> list[int]:
    sizes = {"T": SIZES[dtype], "R": 8 if dtype == "double" else 4}
    return [sizes[letter] if letter in sizes else int(letter) for letter in letters]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kernel, and a thread that has work. Tensors are letters: T in the storage type, R in the type
    that it is computed in, else the bytes of a value.
    """

    name: str
    """The operator and its direction."""
    source: str
    """The folder of csrc that holds the kernel."""
    kernel: str
    """Its name and template arguments, {T} for the storage type."""
    reads: str
    """The tensors that a pack loads."""
    writes: str
    """The tensors that it stores."""
    dtypes: tuple[str, ...] = ALL
    """Storage types to count."""
    columns: int | None = None
    """Of the row that a warp shares; None where a thread makes one pack."""
    samples: int = 1
    """Turns of the innermost loop, where that goes over samples."""
    draws: int = 1
    """Samples that a pack makes in one turn: each is an element, and what the pack loads is not an element's."""
    shared_reads: str = ""
    """Tensors that a pack loads once for all its samples; their bytes are not an element's."""
    shared_writes: str = ""
    """The same of those that it stores."""
    prefer: tuple[str, ...] = ()
    """Instructions of this path that others lack."""

    def wanted(self, dtype: str) -> Wanted:
        """The thread whose path is sought."""
        return Wanted(
            pack=self._moved(self.reads, self.writes, dtype),
            packs=self.packs(dtype),
            samples=self.samples,
            shared=self._moved(self.shared_reads, self.shared_writes, dtype),
            prefer=self.prefer,
            lanes=self.lanes(dtype),
        )

    def _moved(self, reads: str, writes: str, dtype: str) -> Moved:
        pack = pack_of(dtype)
        singles = pack * reads.count("1") if "LDG.E.U8" in self.prefer else 0
        wide = sum(size * pack for size in _bytes(reads, dtype) if size * pack >= 16)
        return Moved(loads=wide, bytes_loads=singles, stores=sum(_bytes(writes, dtype)) * pack)

    def bytes_per_element(self, dtype: str) -> int:
        """Bytes that an element moves from and to memory."""
        if self.draws > 1:
            return sum(_bytes(self.writes, dtype)) // self.draws
        return sum(_bytes(self.reads + self.writes, dtype))

    def stored(self, dtype: str) -> int:
        """Bytes of tensors that the thread stores."""
        moved = sum(_bytes(self.writes, dtype)) * self.samples + sum(_bytes(self.shared_writes, dtype))
        return moved * pack_of(dtype) * self.packs(dtype)

    def lanes(self, dtype: str) -> int:
        """Lanes that share a row, as share_rows in csrc/common/cuda/rows.h has it."""
        packs = -(-(self.columns or 1) // pack_of(dtype))
        lanes = 1
        while lanes < WARP and lanes * (2 if packs < 64 else 4) < packs:
            lanes *= 2
        return lanes

    def packs(self, dtype: str) -> int:
        """Turns that a lane takes over its row; some lanes idle in the last."""
        return -(-self.columns // (self.lanes(dtype) * pack_of(dtype))) if self.columns else 1

    def elements(self, dtype: str) -> float:
        """Elements that a thread makes."""
        return (self.columns / self.lanes(dtype) if self.columns else pack_of(dtype)) * self.samples * self.draws


# Kinds of target: as the output is stored, float32, bytes, any (seen for each pack), or none.
SAME, FLOAT, BYTES, ANY, NONE = (f"(TargetKind){kind}" for kind in range(5))


def _kinds(what: str) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """The kernels of a short formula by the kind of target: a suffix, the tag, the target's letter, dtypes."""
    return [
        ("", SAME, "T", ("float", "BFloat16", "Float16")),
        ("", ANY, "T", ("double",)),
        (f", float32 {what}", FLOAT, "4", ("BFloat16", "Float16")),
        (f", uint8 {what}", BYTES, "1", ("float", "BFloat16", "Float16")),
    ]


def _likelihood(operator: str, formula: str, kinds: list[tuple[str, str, str, tuple[str, ...]]]) -> list[Case]:
    """The kernels of a likelihood; where it has a parameter, that is as large as the output, or shared by all rows."""
    parameter = "" if operator == "bernoulli_nll" else "T"
    kernels: list[tuple[str, str, str, str, int | None]] = [
        ("forward", "likelihood", "", "", 784),
        ("backward", "likelihood_backward", "T" + parameter, "", 784),
    ]
    if parameter:
        kernels.append(("backward, shared parameter", "likelihood_columns", "T", "R", None))
    return [
        Case(
            name=f"{operator} {direction}{kind}",
            source=operator,
            kernel=f"{kernel}_kernel<true, {{T}}, {tag}, {formula}>",
            reads=f"T{target}{parameter}",
            writes=writes,
            shared_writes=sums,
            dtypes=dtypes,
            columns=columns,
        )
        for kind, tag, target, dtypes in kinds
        for direction, kernel, writes, sums, columns in kernels
    ]


def _gaussian() -> list[Case]:
    """The kernels of the posterior."""
    kl, ratio, full = "gaussian_rsample_kl", "gaussian_rsample_log_ratio", "gaussian_rsample_kl_full"
    forward, backward, columns = "forward_kernel<true, {T}>", "backward_kernel<true, {T}>", "columns_kernel<true, {T}>"
    return [
        Case(name=f"{kl} forward", source=kl, kernel=forward, reads="TT", writes="T", columns=512),
        Case(name=f"{kl} backward", source=kl, kernel=backward, reads="TTT", writes="TT", columns=512),
        Case(
            name=f"{ratio} forward",
            source=ratio,
            kernel=forward,
            reads="TT",
            writes="TTTT",
            columns=128,
            draws=4,
        ),
        Case(
            name=f"{ratio} backward, 8 samples",
            source=ratio,
            kernel=backward,
            reads="T",
            writes="",
            samples=8,
            shared_reads="TT",
            shared_writes="TT",
        ),
        Case(name=f"{full} forward, a prior", source=full, kernel=forward, reads="TTTT", writes="T", columns=512),
        Case(
            name=f"{full} batch sums, a prior",
            source=full,
            kernel=columns,
            reads="TTTT",
            writes="",
            shared_writes="R",
        ),
        Case(name=f"{full} backward, a prior", source=full, kernel=backward, reads="TTTTT", writes="TTTT"),
    ]


def _multinomial() -> list[Case]:
    """multinomial_nll: a kernel for each kind of counts."""
    kinds = [*_kinds("counts"), (", compressed counts", NONE, "", ALL)]
    return [
        Case(
            name=f"multinomial_nll {direction}{kind}",
            source="multinomial_nll",
            kernel=f"{kernel}_kernel<true, {{T}}, {tag}>",
            reads=f"T{counts}",
            writes=writes,
            dtypes=dtypes,
            columns=4096,
        )
        for kind, tag, counts, dtypes in kinds
        for direction, kernel, writes in (("forward", "pieces", ""), ("backward", "backward", "T"))
    ]


CASES = [
    *_gaussian(),
    *_likelihood("bernoulli_nll", "Bernoulli", _kinds("target")),
    *_likelihood("gaussian_nll", "Gaussian", _kinds("target")[:3]),
    *_likelihood("discretized_logistic_nll", "DiscretizedLogistic", [("", ANY, "T", ALL)]),
    *_multinomial(),
    *(
        Case(
            name=f"philox_{draw.lower()}",
            source="philox",
            kernel=f"philox_kernel<true, Draw{draw}s>",
            reads="",
            writes="8" if draw == "Integer" else "4",
            columns=512,
            dtypes=("float",),
        )
        for draw in ("Normal", "Uniform", "Integer")
    ),
]
