"""The executed path of a CUDA kernel, read from its disassembly (`nvdisasm -c`): no kernel is run.

The path is that of one thread which has work. A branch whose outcome the text does not show is decided by what the thread must move:
of all paths it is the one whose global loads and stores come nearest to the wanted bytes; among those the one without calls (the slow
paths of divisions), with all shuffles, and with the fewest instructions. Loops are natural loops (a branch back to a block that
dominates it); a loop counts one iteration's path times its trips.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]+\*/\s+(?:@(!?U?P\d+|!?U?PT) )?([A-Z][\w.]*)(.*?);")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_TARGET = re.compile(r"`\((\.L_x_\d+)\)")
_WIDTHS = {"8": 1, "16": 2, "64": 8, "128": 16}


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One line of the disassembly."""

    opcode: str
    """With its modifiers: `LDG.E.128`."""
    conditional: bool
    """Whether it has a predicate; for a branch, whether it may be passed by."""
    targets: tuple[str, ...]
    """Labels that it may jump to."""

    @property
    def width(self) -> int:
        """Bytes of a global load or store; 0 for everything else."""
        if not self.opcode.startswith(("LDG", "STG")):
            return 0
        sizes = [_WIDTHS[part.strip("US")] for part in self.opcode.split(".")[1:] if part.strip("US") in _WIDTHS]
        return sizes[0] if sizes else 4


def functions_of(text: str) -> dict[str, list[str]]:
    """The lines of each function of a disassembly, by its mangled name."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(".text."):
            lines = found.setdefault(line.removeprefix(".text.").rstrip(":"), [])
        elif line.lstrip().startswith(".section"):
            lines = []
        else:
            lines.append(line)
    return found


def _parse(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if found is None:
        return None
    predicate, opcode, operands = found.groups()
    targets: tuple[str, ...] = ()
    if opcode.startswith("BRA") and opcode != "BRA.DIV":  # BRA.DIV leaves for the case of a diverged warp only
        targets = tuple(_TARGET.findall(operands))
    elif opcode.startswith("BRX"):
        targets = tuple(re.findall(r"\.L_x_\d+", line.partition("BRANCH_TARGETS")[2]))
    conditional = predicate is not None or (bool(targets) and re.search(r"\bU?P\d", operands) is not None)
    return Instruction(opcode=opcode, conditional=conditional, targets=targets)


@dataclass(kw_only=True)
class Block:
    """Instructions that run one after the other, and the blocks that may follow."""

    code: list[Instruction] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    next: list[int] = field(default_factory=list)


def blocks_of(lines: Iterable[str]) -> list[Block]:
    """The control-flow graph of a function; block 0 is its entry. Subroutines behind the last EXIT stay unconnected."""
    blocks = [Block()]
    for line in lines:
        if label := _LABEL.match(line):
            if blocks[-1].code:
                blocks.append(Block())
            blocks[-1].labels.append(label[1])
        elif instruction := _parse(line):
            blocks[-1].code.append(instruction)
            if instruction.targets or (instruction.opcode.startswith(("EXIT", "RET")) and not instruction.conditional):
                blocks.append(Block())
    places = {label: place for place, block in enumerate(blocks) for label in block.labels}
    for place, block in enumerate(blocks):
        last = block.code[-1] if block.code else None
        follow = [places[target] for target in last.targets if target in places] if last else []
        ends = last is not None and not last.conditional and (last.targets or last.opcode.startswith(("EXIT", "RET")))
        block.next = [*([] if ends or place + 1 == len(blocks) else [place + 1]), *follow]
    return blocks


@dataclass(kw_only=True)
class Loop:
    """A natural loop."""

    header: int
    body: set[int]


def loops_of(blocks: list[Block]) -> list[Loop]:
    """All natural loops, inner ones first."""
    before: dict[int, set[int]] = {place: set() for place in range(len(blocks))}
    seen, order, stack = {0}, [0], [0]
    while stack:
        place = stack.pop()
        for follow in blocks[place].next:
            before[follow].add(place)
            if follow not in seen:
                seen.add(follow)
                order.append(follow)
                stack.append(follow)
    dominators = {place: set(seen) for place in seen}
    dominators[0] = {0}
    changed = True
    while changed:
        changed = False
        for place in order[1:]:
            new = set.intersection(*(dominators[b] for b in before[place])) | {place}
            if new != dominators[place]:
                dominators[place], changed = new, True
    loops: dict[int, Loop] = {}
    for place in order:
        for header in blocks[place].next:
            if header in dominators[place]:
                loop = loops.setdefault(header, Loop(header=header, body={header}))
                inside = [place]
                while inside:
                    block = inside.pop()
                    if block not in loop.body:
                        loop.body.add(block)
                        inside.extend(before[block])
    return sorted(loops.values(), key=lambda loop: len(loop.body))


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
    bonus: int = 0
    """Shuffles and other instructions that the path is known to hold."""
    opcodes: tuple[tuple[str, int], ...] = ()
    """Global loads and stores, each with its count, in order."""

    def __add__(self, other: Path) -> Path:
        return Path(
            moved=self.moved + other.moved,
            instructions=self.instructions + other.instructions,
            calls=self.calls + other.calls,
            bonus=self.bonus + other.bonus,
            opcodes=self.opcodes + other.opcodes,
        )

    def __mul__(self, times: int) -> Path:
        return Path(
            moved=self.moved * times,
            instructions=self.instructions * times,
            calls=self.calls * times,
            bonus=self.bonus * times,
            opcodes=tuple((opcode, count * times) for opcode, count in self.opcodes),
        )

    @property
    def cost(self) -> tuple[int, int, int]:
        """Smaller is likelier, at equal bytes moved."""
        return self.calls, -self.bonus, self.instructions

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
    prefer: tuple[str, ...] = ()
    """Starts of opcodes that the path is known to hold."""
    lanes: int = 32
    """Threads that share a row's sums."""


def _path_of_block(block: Block, wanted: Wanted) -> Path:
    loads = sum(i.width for i in block.code if i.opcode.startswith("LDG") and i.width == 16)
    singles = sum(i.width for i in block.code if i.opcode.startswith("LDG") and i.width == 1)
    stores = sum(i.width for i in block.code if i.opcode.startswith("STG") and (i.width == 16 or not i.conditional))
    return Path(
        moved=Moved(loads=loads, bytes_loads=singles, stores=stores),
        instructions=sum(i.opcode != "NOP" for i in block.code),
        calls=sum(i.opcode.startswith("CALL") for i in block.code),
        bonus=sum(i.opcode.startswith(("SHFL", *wanted.prefer)) for i in block.code),
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
        wanted = self.wanted.pack * (self.wanted.packs * self.wanted.samples)
        ends = [place for place, block in enumerate(self.blocks) if block.code and not block.next]
        return _nearest(self._region(None, 0, ends), wanted)

    def _inner(self, loop: Loop) -> list[Loop]:
        return [other for other in self.loops if self.outer.get(other.header) is loop]

    def _iterate(self, loop: Loop) -> Path:
        latches = [place for place in loop.body if loop.header in self.blocks[place].next]
        paths = self._region(loop, loop.header, [self._node(loop, place) for place in latches])
        unit = self.wanted.pack
        most = max(path.moved.loads // unit.loads if unit.loads else path.moved.stores // unit.stores for path in paths)
        packs = max(1, most)
        path = _nearest(paths, unit * packs)
        if not path.moved:
            return path * (self.wanted.lanes.bit_length() - 1 if path.bonus else 1)
        if any(self.whole[inner.header].moved for inner in self._inner(loop)):
            return path
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
