"""PyTorch's pickles: read as pickle reads them, and hostile or damaged ones refused without running anything."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnspark.models.gatk_weights import torch_pickle
from cnnspark.models.gatk_weights.files import read_weights
from tests.models.gatk_weights.weight_files import (
    Called,
    Made,
    Named,
    Stored,
    arrays_of,
    changes,
    damaged,
    lengths,
    module_of,
    pickled,
    said,
    same_folder,
    state_dict,
    survives,
    torch_file,
    write,
)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_read_as_pythons_own_pickle_reads_them(protocol: int) -> None:
    plain = {"a": [1, 2.5, None, True, -70000, 2**70], "b": ("x", {"z": (), "y": [[]]}, (1, 2, 3, 4)), 3: "\u00e9"}
    plain["again"] = plain["a"]
    assert torch_pickle.read_pickle(pickle.dumps(plain, protocol)) == plain


def hostile_values() -> dict[str, Any]:
    """Programs that would make the file MARKER, or do worse, if they were run; no test may leave a MARKER."""
    touch = "touch MARKER"
    code = "open('MARKER', 'w')"
    inner = pickle.dumps(0)[:-1] + b"cos\nsystem\n(X\x0c\x00\x00\x00touch MARKERtR."
    return {
        "os.system": Called("os.system", touch),
        "posix.system": Called("posix.system", touch),
        "subprocess": Called("subprocess.Popen", ["touch", "MARKER"]),
        "eval": Called("builtins.eval", code),
        "eval of Python 2": Called("__builtin__.eval", code),
        "exec": Called("builtins.exec", code),
        "getattr": Called("builtins.getattr", Named("os.path"), "os"),
        "import": Called("importlib.import_module", "os"),
        "runpy": Called("runpy._run_code", code, {}),
        "a package's function": Called("pip.main", ["install", "x"]),
        "numpy": Called("numpy.load", "MARKER"),
        "a test's own class": Called(f"{__name__}.make_marker"),
        "nested pickle": Called("torch.storage._load_from_bytes", inner),
        "torch.load": Called("torch.load", "MARKER"),
        "torch.hub": Called("torch.hub.load", "x", "y"),
        "torch.jit": Called("torch.jit._script.unpackage_script_module", "x"),
        "object state": Called("copyreg._reconstructor", Named("os.system"), Named("__builtin__.object"), None),
        "call of a result": Called("operator.methodcaller", "system", touch),
        "new of a function": Made("os.system", {"command": touch}),
        "setstate of a module": Called("nobody.has.this.Network", state={"__setstate__": Named("os.system")}),
    }  # fmt: skip


def make_marker() -> None:
    Path("MARKER").touch()


@pytest.mark.parametrize("name", sorted(hostile_values()))
@pytest.mark.parametrize("place", ["top", "attribute", "weight"])
def test_nothing_of_a_hostile_pickle_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    harm, arrays = hostile_values()[name], arrays_of("1d")
    tree = {
        "top": harm,
        "attribute": module_of(arrays, harm=harm),
        "weight": {**dict.fromkeys(arrays), "conv.0.weight": harm},
    }[place]
    text = said(write(tmp_path, torch_file(tree, arrays)))
    assert "nothing of it was run" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.bin"]


def test_these_programs_do_run_where_pickle_loads_them(tmp_path: Path) -> None:
    """So that the test above tests something."""
    (tmp_path / "program").write_bytes(pickled(hostile_values()["os.system"]))
    (tmp_path / "other").write_bytes(pickled(hostile_values()["eval"]).replace(b"MARKER", b"MARK_2"))
    code = "import pickle; pickle.load(open('program', 'rb')); pickle.load(open('other', 'rb'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "MARKER").exists() and (tmp_path / "MARK_2").exists()


def deep(levels: int) -> bytes:
    return b"\x80\x02)" + b"\x85" * levels


RAW = {
    "text of protocol 0": (b"cos\nsystem\n(S'touch MARKER'\ntR.", "names os.system"),
    "INST": (b"(S'touch MARKER'\nios\nsystem\n.", "the operation INST"),
    "OBJ": (b"(c__builtin__\nset\no.", "the operation OBJ"),
    "EXT1": (b"\x82\x01.", "the operation EXT1"),
    "PERSID": (b"P../../../etc/passwd\n.", "the operation PERSID"),
    "STACK_GLOBAL": (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.", "names os.system"),
    "dotted name": (b"\x80\x04\x8c\x05torch\x8c\x0fhub.load.system\x93)R.", "names torch.hub.load.system"),
    "name that is no text": (b"\x80\x04K\x01K\x02\x93.", "is damaged"),
    "name with a line break": (b"\x80\x04\x8c\x02os\x8c\x06a\x1b[2J\n\x93.", "names os.a?[2J"),
    "call of a call": (b"\x80\x02c__builtin__\nset\n]\x85R(tR.", "calls what is not a function"),
    "call without a tuple": (b"\x80\x02c__builtin__\nset\nN R.", "is damaged"),
    "state of a function": (b"\x80\x02ctorch._utils\n_rebuild_tensor\n}b.", "is damaged"),
    "memo of nothing": (b"\x80\x02h\x05.", "is damaged"),
    "memo far away": (b"\x80\x02}r\xff\xff\xff\x7f0j\xff\xff\xff\x7f.", "conv.0.weight and 11 more are missing"),
    "text longer than the file": (b"\x80\x02X\xff\xff\xff\x7fabc.", "is damaged"),
    "frame longer than the file": (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.", "is damaged"),
    "huge number": (b"\x80\x02L" + b"9" * 100_000 + b"L\n.", "is damaged"),
    "empty": (b"", "is damaged"),
    "no end": (b"\x80\x02}", "is damaged"),
    "deep": (deep(900_000) + b".", "neither a network"),
    "deep key": (b"\x80\x02}" + deep(300_000)[2:] + b"Ns.", "is damaged"),
    "deep list": (b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".", "neither a network"),
    "pickle too long": (b"\x80\x02" + b"N0" * (600 << 10) + b"N.", "is damaged"),
}


@pytest.mark.parametrize("name", sorted(RAW))
def test_programs_that_no_pickler_writes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    program, message = RAW[name]
    assert message in said(write(tmp_path, torch_file(program, arrays_of("1d"))))
    assert not (tmp_path / "MARKER").exists()


def test_a_module_that_holds_itself_is_visited_once(tmp_path: Path) -> None:
    arrays = arrays_of("1d")
    top = module_of(arrays)
    top.state["_modules"]["again"] = top
    read = read_weights(write(tmp_path, torch_file(top, arrays)), "1d")
    assert set(read) == set(arrays)


def test_modules_that_share_others_do_not_multiply(tmp_path: Path) -> None:
    inner = Made("torch.nn.modules.container.Sequential", {"_modules": {}})
    for _ in range(25):  # 60 ** 25 paths lead to the innermost
        inner = Made("torch.nn.modules.container.Sequential", {"_modules": {str(i): inner for i in range(60)}})
    assert "are missing" in said(write(tmp_path, torch_file(inner, {})))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"identity": ("storage", Named("torch.FloatStorage"), "../../../etc/passwd", "cpu", 24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "/etc/passwd", "cpu", 24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), 0, "cpu", 24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "77", "cpu", 24)}, "is damaged at conv.0.weight"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "0", "cpu", -24)}, "under a name"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "0", "cpu", 1 << 39)}, "is damaged at conv.0.weight"),
        ({"identity": ("storage", Named("torch.FloatStorage"), "0", "cpu", 25)}, "is damaged at conv.0.weight"),
        ({"identity": ("storage", Named("torch.LongStorage"), "1", "cpu", 24)}, "conv.0.weight"),
        ({"identity": ("module", Named("torch.FloatStorage"), "0", "cpu", 24)}, "is damaged"),
        ({"identity": ("storage", Named("nobody.Storage"), "0", "cpu", 24)}, "is of a type that is not known"),
        ({"identity": "0"}, "is damaged"),
        ({"offset": 1}, "does not lie within"),
        ({"offset": -1}, "no proper shape"),
        ({"offset": 1 << 70}, "no proper shape"),
        ({"strides": (-12, 3, 1)}, "no proper shape"),
        ({"strides": (1 << 39, 3, 1)}, "does not lie within"),
        ({"strides": (12, 3)}, "no proper shape"),
        ({"shape": (2, 4, 3, 1)}, "no proper shape"),
        ({"shape": (1 << 39, 4, 3), "strides": (0, 0, 0)}, "instead of (2, 4, 3)"),
        ({"shape": (True, 4, 3)}, "no proper shape"),
        ({"shape": "abc"}, "no proper shape"),
    ],
)
def test_arrays_do_not_leave_their_storage(tmp_path: Path, other: dict, message: str) -> None:
    arrays = arrays_of("1d")
    tree = state_dict(arrays)
    tree.values["conv.0.weight"] = Stored(arrays["conv.0.weight"], 0, **other)
    assert message in said(write(tmp_path, torch_file(tree, arrays)))


@same_folder
@given(changes=changes, length=lengths)
def test_changed_bytes_of_a_pickle_give_weights_or_a_sentence(
    tmp_path: Path, changes: list[tuple[int, int]], length: float
) -> None:
    """The zip stays whole, so that its checksums do not find the damage first."""
    arrays = arrays_of("1d")
    program = damaged(pickled(module_of(arrays)), changes, length)
    survives(tmp_path / "damaged", torch_file(program, arrays))


@same_folder
@given(program=st.binary(max_size=200))
def test_any_bytes_as_a_pickle_give_a_sentence(tmp_path: Path, program: bytes) -> None:
    survives(tmp_path / "damaged", torch_file(program, arrays_of("1d")))
