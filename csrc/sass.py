"""The control flow of CUDA kernels, read from their disassembly (`nvdisasm -c`)."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
