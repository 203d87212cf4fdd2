"""Counting instructions in machine code: a small handwritten text, then the smallest kernel, compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sass_counts
from sass import blocks_of, functions_of, loops_of
from sass_cases import Case
from sass_counts import Compiled, rows_of
from sass_path import Moved, Walker, Wanted

# A prologue of 3, a division with a slow path, a loop over packs (7 instructions, 4 of them in a branch that an absent
# mask saves), a sum over the warp's lanes (3 instructions a turn) and the row's store.
KERNEL = """
	.section	.text._ZN7fastvae14forward_kernelILb1EfEEvPKf,"ax",@progbits
.text._ZN7fastvae14forward_kernelILb1EfEEvPKf:
        .type           _ZN7fastvae14forward_kernelILb1EfEEvPKf,@function
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   ISETP.NE.AND P0, PT, R2, RZ, PT ;
        /*0020*/              @!P0 BRA `(.L_x_1) ;
        /*0030*/                   MOV R6, 0x50 ;
        /*0040*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
        /*0050*/                   BRA `(.L_x_2) ;
.L_x_1:
        /*0060*/                   MUFU.RCP R4, R4 ;
        /*0070*/                   IMAD R4, R4, R5, RZ ;
.L_x_2:
        /*0080*/                   LDG.E.128 R8, desc[UR4][R2.64] ;
        /*0090*/              @!P1 BRA `(.L_x_3) ;
        /*00a0*/                   LDG.E.U8 R7, desc[UR4][R6.64] ;
        /*00b0*/                   LDG.E.U8 R5, desc[UR4][R6.64+0x1] ;
.L_x_3:
        /*00c0*/                   FFMA R8, R8, R8, R9 ;
        /*00d0*/                   {store} desc[UR4][R2.64], R8 ;
        /*00e0*/               @P0 BRA P2, `(.L_x_2) ;
.L_x_4:
        /*00f0*/                   SHFL.BFLY PT, R4, R5, R6, 0x1f ;
        /*0100*/                   FADD R5, R4, R5 ;
        /*0110*/               @P0 BRA `(.L_x_4) ;
        /*0120*/              @!P3 STG.E desc[UR4][R2.64], R5 ;
        /*0130*/                   EXIT ;
        .weak           $__internal_0_$__cuda_sm20_div_s64
$__internal_0_$__cuda_sm20_div_s64:
        /*0140*/                   IMAD R1, R1, R1, RZ ;
        /*0150*/                   RET.REL.NODEC R6 `(_ZN7fastvae14forward_kernelILb1EfEEvPKf) ;
"""
REPORT = """
ptxas info    : Compiling entry function '_ZN7fastvae14forward_kernelILb1EfEEvPKf' for 'sm_90'
    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
"""
CASE = Case(
    name="square",
    source="square",
    kernel="forward_kernel<true, {T}>",
    reads="T",
    writes="T",
    dtypes=("float",),
    columns=512,
)


def text(store: str = "STG.E.128") -> str:
    return KERNEL.replace("{store}", store)


def found(
    monkeypatch: pytest.MonkeyPatch, store: str = "STG.E.128", spilled: int = 0
) -> tuple[list[object], list[str]]:
    monkeypatch.setattr(sass_counts, "CASES", [CASE])
    rows, troubles = rows_of("square", Compiled(text=text(store), report=REPORT.replace("{spilled}", str(spilled))))
    return list(rows), troubles


def test_loops_are_found_on_the_path_of_an_active_thread() -> None:
    (lines,) = functions_of(text()).values()
    blocks = blocks_of(lines)
    assert sorted(blocks[loop.header].labels[0] for loop in loops_of(blocks)) == [".L_x_2", ".L_x_4"]
    walker = Walker(blocks, Wanted(pack=Moved(loads=16, stores=16), packs=4))
    path = walker.executed()
    assert path.instructions == 3 + 2 + 4 * 5 + 5 * 3 + 2  # no slow division, no mask, five steps of a warp reduction
    assert path.moved == Moved(loads=64, stores=64)
    assert walker.body() == 7
    assert path.accesses() == {"LDG.E.128": 4, "STG.E.128": 4, "STG.E": 1}


def test_a_mask_of_bytes_uses_its_branch() -> None:
    (lines,) = functions_of(text()).values()
    path = Walker(blocks_of(lines), Wanted(pack=Moved(loads=16, bytes_loads=2, stores=16))).executed()
    assert path.moved.bytes_loads == 2
    assert path.instructions == 3 + 2 + 7 + 5 * 3 + 2


def test_the_table_has_its_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, troubles = found(monkeypatch)
    assert troubles == []
    (row,) = rows
    assert isinstance(row, sass_counts.Row)
    assert row.instructions == (3 + 2 + 4 * 5 + 5 * 3 + 2) / 16  # one lane's part of 512 columns
    assert (row.bytes_moved, row.registers, row.spilled) == (8, 40, 0)
    issue, copy = 2.625 / (132 * 128 * 1.98e9 * 0.8), 8 / 4.3e12
    assert row.of_copy("H200") == pytest.approx(min(0.9, copy / issue))
    assert "| square | float32 | 2.6 | 7 | 8 | 0.90 / 0.90 | 40 | 0 |" in sass_counts.table([row])


def test_a_spill_and_a_narrow_store_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert any("spills 8 bytes" in trouble for trouble in found(monkeypatch, spilled=8)[1])
    assert any("stores 0 of 64 bytes" in trouble for trouble in found(monkeypatch, store="STG.E.64")[1])
    assert found(monkeypatch, store="STG.E.EF.128")[1] == []


def test_a_kernel_without_a_case_and_a_case_without_a_kernel_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sass_counts, "CASES", [])
    report = REPORT.replace("{spilled}", "0")
    _, troubles = rows_of("square", Compiled(text=text(), report=report))
    assert troubles == ["square: forward_kernel<true, float> has no case in csrc/sass_cases.py"]
    monkeypatch.setattr(sass_counts, "CASES", [CASE])
    _, troubles = rows_of("square", Compiled(text="", report=""))
    assert troubles == ["square: no kernel forward_kernel<true, float>, which csrc/sass_cases.py names"]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_the_smallest_source_compiles_and_counts(tmp_path: Path) -> None:
    script = Path(sass_counts.__file__)
    environment = {**os.environ, "FASTVAE_SASS_KEPT": str(tmp_path)}
    command = [sys.executable, str(script), "--source", "philox"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "| philox_normal | float32 |" in ran.stdout, ran.stderr
    assert (tmp_path / "philox.json").exists()
