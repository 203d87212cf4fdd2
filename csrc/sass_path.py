"""The executed path of a kernel, from its control flow: no kernel is run.

The path is that of one thread which has work. A branch whose outcome the text does not show is decided by what the
thread must move: of all paths it is the one whose global loads and stores come nearest to the wanted bytes; among
those the one without calls (the slow paths of divisions), with the most shuffles and floating-point arithmetic
(absent gradients would save some), then with the fewest instructions. A loop counts one iteration's path times its
trips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sass import Block, Loop, loops_of

_ARITHMETIC = (
    "FFMA",
    "FMUL",
    "FADD",
    "DFMA",
    "DMUL",
    "DADD",
    "MUFU.EX2",
    "MUFU.LG2",
    "MUFU.SQRT",
    "MUFU.SIN",
    "MUFU.COS",
)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Bytes that a path moves: the thread's share of whole tensors."""

    loads: int = 0
    """In 16-byte loads."""
    bytes_loads: int = 0
    """In loads of single bytes."""
    stores: int = 0

    def __add__(self, other: Moved) -> Moved:
        return Moved(
            loads=self.loads + other.loads,
            bytes_loads=self.bytes_loads + other.bytes_loads,
            stores=self.stores + other.stores,
        )

    def __mul__(self, times: int) -> Moved:
        return Moved(loads=self.loads * times, bytes_loads=self.bytes_loads * times, stores=self.stores * times)

    def distance(self, other: Moved) -> int:
        """How far two paths are apart."""
        differences = self.loads - other.loads, self.bytes_loads - other.bytes_loads, self.stores - other.stores
        return sum(map(abs, differences))

    def __bool__(self) -> bool:
        return self != Moved()


@dataclass(frozen=True, kw_only=True)
class Path:
    """What a thread executes on its way through a part of the code."""

    moved: Moved = Moved()
    instructions: int = 0
    calls: int = 0
    shuffles: int = 0
    arithmetic: int = 0
    """Floating-point additions, products and what the thread is known to execute."""
    opcodes: tuple[tuple[str, int], ...] = ()
    """Global loads and stores, each with its count, in order."""

    def __add__(self, other: Path) -> Path:
        return Path(
            moved=self.moved + other.moved,
            instructions=self.instructions + other.instructions,
            calls=self.calls + other.calls,
            shuffles=self.shuffles + other.shuffles,
            arithmetic=self.arithmetic + other.arithmetic,
            opcodes=self.opcodes + other.opcodes,
        )

    def __mul__(self, times: int) -> Path:
        return Path(
            moved=self.moved * times,
            instructions=self.instructions * times,
            calls=self.calls * times,
            shuffles=self.shuffles * times,
            arithmetic=self.arithmetic * times,
            opcodes=tuple((opcode, count * times) for opcode, count in self.opcodes),
        )

    @property
    def cost(self) -> tuple[int, int, int]:
        """Smaller is likelier, at equal bytes moved."""
        return self.calls, -self.shuffles - self.arithmetic, self.instructions

    def accesses(self) -> Counter[str]:
        """Global loads and stores by opcode."""
        counts: Counter[str] = Counter()
        for opcode, count in self.opcodes:
            counts[opcode] += count
        return counts


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is known of the thread whose path is sought."""

    pack: Moved
    """What one pack of columns moves."""
    packs: int = 1
    """Packs of a row that one thread takes."""
    samples: int = 1
    """Where the innermost loop runs over samples: their number."""
    shared: Moved = field(default_factory=Moved)
    """What a pack moves once for all its samples."""
    prefer: tuple[str, ...] = ()
    """Starts of opcodes that the path is known to hold."""
    lanes: int = 32
    """Threads that share a row's sums."""


def _path_of_block(block: Block, wanted: Wanted) -> Path:
    loads = sum(i.width for i in block.code if i.opcode.startswith("LDG") and i.width == 16)
    singles = sum(i.width for i in block.code if i.opcode.startswith("LDG") and i.width == 1 and not i.conditional)
    stores = sum(i.width for i in block.code if i.opcode.startswith("STG") and (i.width == 16 or not i.conditional))
    known = (*_ARITHMETIC, *wanted.prefer)
    return Path(
        moved=Moved(loads=loads, bytes_loads=singles, stores=stores),
        instructions=sum(i.opcode != "NOP" for i in block.code),
        calls=sum(i.opcode.startswith("CALL") for i in block.code),
        shuffles=sum(i.opcode.startswith("SHFL") for i in block.code),
        arithmetic=sum(i.opcode.startswith(known) for i in block.code),
        opcodes=tuple((i.opcode, 1) for i in block.code if i.width),
    )


class Walker:
    """Finds the executed path of a function."""

    def __init__(self, blocks: list[Block], wanted: Wanted) -> None:
        self.blocks, self.wanted = blocks, wanted
        self.loops = loops_of(blocks)
        self.paths = [_path_of_block(block, wanted) for block in blocks]
        self.outer: dict[int, Loop] = {}  # by a loop's header
        self.owner: dict[int, Loop] = {}  # the innermost loop of a block
        for loop in self.loops:
            for place in loop.body:
                self.owner.setdefault(place, loop)
            outside = (other for other in self.loops if other is not loop and loop.header in other.body)
            if parent := next((other for other in outside if len(other.body) > len(loop.body)), None):
                self.outer[loop.header] = parent
        self.whole: dict[int, Path] = {}  # a loop with all its iterations
        for loop in self.loops:
            self.whole[loop.header] = self._iterate(loop)

    def executed(self) -> Path:
        """The path from the entry to EXIT."""
        ends = [place for place, block in enumerate(self.blocks) if block.code and not block.next]
        return _nearest(self._region(None, 0, ends), self._all())

    def body(self) -> int:
        """Instructions of the innermost loop that moves tensors, all its branches counted; 0 where there is none."""
        moving = (loop for loop in self.loops if self.whole[loop.header].moved)
        loop = max(moving, key=lambda loop: (not self._holds_moving(loop), len(loop.body)), default=None)
        return sum(self.paths[place].instructions for place in loop.body) if loop else 0

    def _holds_moving(self, loop: Loop) -> bool:
        return any(self.whole[inner.header].moved for inner in self._inner(loop))

    def _all(self) -> Moved:
        return (self.wanted.pack * self.wanted.samples + self.wanted.shared) * self.wanted.packs

    def _inner(self, loop: Loop) -> list[Loop]:
        return [other for other in self.loops if self.outer.get(other.header) is loop]

    def _iterate(self, loop: Loop) -> Path:
        latches = [place for place in loop.body if loop.header in self.blocks[place].next]
        paths = self._region(loop, loop.header, [self._node(loop, place) for place in latches])
        if self._holds_moving(loop):
            return _nearest(paths, self._all())
        unit = self.wanted.pack
        most = max(path.moved.loads // unit.loads if unit.loads else path.moved.stores // unit.stores for path in paths)
        choices = [
            (_nearest(paths, unit * packs), packs) for packs in range(1, max(1, most) + 1)
        ]  # an unrolled loop takes some
        path, packs = min(choices, key=lambda choice: choice[0].moved.distance(unit * choice[1]))
        if not path.moved:
            return path * (self.wanted.lanes.bit_length() - 1 if path.shuffles else 1)
        trips = self.wanted.samples if self.wanted.samples > 1 else -(-self.wanted.packs // packs)
        return path * trips

    def _node(self, region: Loop | None, place: int) -> int:
        """The block that stands for a block in this region: itself, or the header of the inner loop around it."""
        loop = self.owner.get(place)
        while loop is not None and loop is not region:
            place, loop = loop.header, self.outer.get(loop.header)
        return place

    def _follow(self, region: Loop | None, node: int) -> Iterator[int]:
        loop = self.owner.get(node)
        inner = loop is not region and loop is not None
        body = self._widest(region, node).body if inner else {node}
        for place in sorted(body):
            for follow in self.blocks[place].next:
                inside = region is None or (follow in region.body and follow != region.header)
                if inside and follow not in body:
                    yield self._node(region, follow)

    def _widest(self, region: Loop | None, node: int) -> Loop:
        loop = self.owner[node]
        while self.outer.get(loop.header) is not region:
            loop = self.outer[loop.header]
        return loop

    def _region(self, region: Loop | None, entry: int, ends: list[int]) -> list[Path]:
        """The best path to the given ends for each number of bytes moved, inner loops as one step."""
        order: list[int] = []
        seen: set[int] = set()

        def visit(node: int, push: Callable[[int], None]) -> None:
            stack: list[tuple[int, Iterator[int]]] = [(node, self._follow(region, node))]
            seen.add(node)
            while stack:
                place, follows = stack[-1]
                follow = next((f for f in follows if f not in seen), None)
                if follow is None:
                    push(place)
                    stack.pop()
                else:
                    seen.add(follow)
                    stack.append((follow, self._follow(region, follow)))

        visit(entry, order.append)
        best: dict[int, dict[Moved, Path]] = {entry: {Moved(): Path()}}
        finished: list[Path] = []
        for node in reversed(order):
            inner = self.owner.get(node) is not region and node in self.owner
            own = self.whole[self._widest(region, node).header] if inner else self.paths[node]
            arrived = [path + own for path in best.get(node, {}).values()]
            if node in ends:
                finished.extend(arrived)
            for follow in set(self._follow(region, node)):
                states = best.setdefault(follow, {})
                for path in arrived:
                    known = states.get(path.moved)
                    if known is None or path.cost < known.cost:
                        states[path.moved] = path
        return finished


def _nearest(paths: list[Path], wanted: Moved) -> Path:
    return min(paths, key=lambda path: (path.moved.distance(wanted), path.cost))
