"""``.pth`` files: equal to ``torch.load``; hostile files run nothing, import nothing and open nothing."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empu.checkpoint.formats.torch.archive import read_torch_file
from empu.errors import CheckpointError, EmpuError

HARMLESS_EVENTS = {"object.__getattr__", "code.__new__", "builtins.id"}
WATCHED_EVENTS = (
    "import",
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "exec",
    "compile",
    "ctypes.",
    "shutil.",
    "pickle.",
    "code.",
)


class AuditWatch:
    """Records what a hostile pickle does, by Python's audit events."""

    def __init__(self) -> None:
        self.is_active = False
        self.events: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_active and event.startswith(WATCHED_EVENTS) and event not in HARMLESS_EVENTS:
            self.events.append(f"{event} {arguments!r:.80}")

    def during(self, work: Callable[[], object]) -> list[str]:
        """Return the events during ``work``, except for opening and mapping the file itself."""
        self.events.clear()
        self.is_active = True
        try:
            work()
        finally:
            self.is_active = False
        return [event for event in self.events if not event.startswith(("open (", "open ('/")) and ".pth" not in event]


@pytest.fixture(scope="module")
def watch() -> AuditWatch:
    return AuditWatch()


def archive(path: Path, program: bytes, members: dict[str, bytes] | None = None) -> Path:
    """Write a .pth file with this pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/byteorder", "little")
        for name, data in (members or {"0": b"\0" * 64}).items():
            file.writestr(f"archive/data/{name}", data)
        file.writestr("archive/version", "3\n")
    return path


def calls(module: str, name: str, *arguments: object, protocol: int = 2) -> bytes:
    """Return a pickle that calls a function by its name."""
    program = b"\x80" + bytes([protocol]) + f"c{module}\n{name}\n".encode()
    return (
        program + b"(" + b"".join(b"X" + struct.pack("<I", len(str(a))) + str(a).encode() for a in arguments) + b"tR."
    )


STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQ"


def tensor(
    storage: bytes = STORAGE,
    offset: bytes = b"K\0",
    shape: bytes = b"K\x04K\x04\x86",
    stride: bytes = b"K\x04K\x01\x86",
) -> bytes:
    """Return a pickle of a dict with one tensor, whose parts are given as instructions."""
    return (
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + shape
        + stride
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def hostile() -> Iterator[tuple[str, bytes]]:
    for module, name, argument in (
        ("os", "system", "true"), ("posix", "system", "true"), ("nt", "system", "x"), ("subprocess", "Popen", "true"),
        ("subprocess", "check_output", "true"), ("builtins", "eval", "1"), ("builtins", "exec", "1"),
        ("builtins", "compile", "1"), ("builtins", "open", "/etc/passwd"), ("builtins", "__import__", "os"),
        ("builtins", "getattr", "x"), ("builtins", "breakpoint", ""), ("builtins", "input", ""),
        ("__builtin__", "eval", "1"),
        ("__builtin__", "file", "/etc/passwd"), ("io", "open", "/etc/passwd"), ("pathlib", "Path", "/"),
        ("shutil", "rmtree", "/nonexistent"), ("socket", "create_connection", "x"), ("urllib.request", "urlopen", "x"),
        ("runpy", "run_path", "x"),
        ("importlib", "import_module", "os"), ("pickle", "loads", "x"), ("marshal", "loads", "x"),
        ("ctypes", "CDLL", "libc.so.6"),
        ("code", "interact", ""), ("pty", "spawn", "sh"), ("timeit", "timeit", "1"),
        ("torch", "load", "x"), ("torch.hub", "load", "x"), ("torch.serialization", "load", "x"),
        ("torch", "compile", "x"),
        ("torch._utils", "_rebuild_tensor_v3", "x"), ("torch._utils", "_rebuild_wrapper_subclass", "x"),
        ("torch.jit", "load", "x"), ("numpy", "load", "x"), ("numpy.core.multiarray", "_reconstruct", "x"),
        ("functools", "partial", "x"), ("operator", "attrgetter", "x"), ("types", "FunctionType", "x"),
        ("collections", "OrderedDict.__init__", "x"), ("torch", "FloatStorage.from_file", "x"), ("sys", "exit", "0"),
        ("webbrowser", "open", "x"), ("asyncio", "run", "x"), ("threading", "Thread", "x"), ("atexit", "register", "x"),
    ):  # fmt: skip
        yield f"{module}.{name}", calls(module, name, argument)
    yield "STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R."
    yield "INST", b"(S'true'\nios\nsystem\n."
    yield "OBJ", b"\x80\x02(cos\nsystem\nX\x04\0\0\0trueo."
    yield "NEWOBJ", b"\x80\x02cbuiltins\nobject\n)\x81."
    yield "NEWOBJ_EX", b"\x80\x04cbuiltins\nobject\n)}\x92."
    yield "BUILD", b"\x80\x02ccollections\nOrderedDict\n)R}X\x01\0\0\0aK\x01sb."
    yield "EXT1", b"\x80\x02\x82\x01."
    yield "PERSID", b"P0\n."
    yield "another storage", tensor(STORAGE.replace(b"FloatStorage", b"UntypedStorage"))
    yield "a missing storage", tensor(STORAGE.replace(b"\x01\0\0\x000", b"\x01\0\0\x009"))
    yield "a key that climbs", tensor(STORAGE.replace(b"X\x01\0\0\x000", b"X\x06\0\0\x00../../"))
    yield "too many values", tensor(STORAGE.replace(b"K\x10tQ", b"M\xff\xfftQ"))
    yield "a negative offset", tensor(offset=b"J\xff\xff\xff\xff")
    yield "an offset beyond", tensor(offset=b"K\x08")
    yield "a shape beyond", tensor(shape=b"K\x08K\x04\x86", stride=b"K\x04K\x01\x86")
    yield "a huge shape", tensor(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86")
    yield "a negative shape", tensor(shape=b"J\xff\xff\xff\xffK\x04\x86")
    yield "strides out of order", tensor(stride=b"K\x01K\x04\x86")
    yield "zero strides", tensor(stride=b"K\0K\0\x86")
    yield "strides of another length", tensor(stride=b"K\x04\x85")
    yield "not a dict", b"\x80\x02K\x01."
    yield "a name that is not a string", b"\x80\x02}K\x01K\x02s."
    yield "endless nesting", b"\x80\x02" + b"(" * 300_000 + b"."
    yield "a memo bomb", b"\x80\x02]q\0" + b"(h\0h\0h\0h\0h\0h\0h\0h\0h\0h\0tq\0" * 50_000 + b"."
    yield "an endless string", b"\x80\x02X\xff\xff\xff\x7fabc."
    yield "an endless number", b"\x80\x02\x8b\xff\xff\xff\x7f1."
    yield "no STOP", b"\x80\x02}"
    yield "empty", b""
    yield "data after the end", tensor() + b"}."


CASES = list(hostile())


def test_there_are_enough_hostile_pickles() -> None:
    assert len({name for name, _ in CASES}) == len(CASES) >= 60
    print(f"[{len(CASES)} hostile pickles]")


@pytest.mark.parametrize(("name", "program"), CASES, ids=[name for name, _ in CASES])
def test_hostile_pickles_are_refused_and_do_nothing(
    name: str, program: bytes, tmp_path: Path, watch: AuditWatch
) -> None:
    path = archive(tmp_path / "hostile.pth", program)

    def work() -> None:
        with pytest.raises(EmpuError) as caught:
            read_torch_file(path)
        assert "hostile.pth" in str(caught.value)

    assert watch.during(work) == []


def test_the_watch_detects_hostile_pickles(watch: AuditWatch) -> None:
    assert watch.during(lambda: pickle.loads(calls("os", "getcwd"))) or watch.during(
        lambda: pickle.loads(calls("subprocess", "getoutput", "true"))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_values_equal_torch_load(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    shared = torch.randn(6, 10).to(dtype)
    saved = OrderedDict(a=torch.randn(3, 5).to(dtype), b=shared[2:4], c=torch.nn.Parameter(torch.randn(7).to(dtype)))
    torch.save(saved, tmp_path / "x.pth")
    file = read_torch_file(tmp_path / "x.pth")
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert list(file.tensors) == list(loaded)
    for name, expected in loaded.items():
        entry = file.tensors[name]
        got = entry.type.unpack(file.bytes_of(name)).reshape(entry.shape)
        assert (got == expected.detach().float().numpy()).all()


def test_truncations_and_flipped_bits_are_handled(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(16.0).reshape(4, 4)}, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    path = tmp_path / "broken.pth"
    random = np.random.default_rng(0)
    outcomes = {"opened": 0, "refused": 0}
    cases = [whole[:size] for size in range(len(whole))]
    for _ in range(3000):
        broken = bytearray(whole)
        for _ in range(int(random.integers(1, 4))):
            broken[random.integers(len(broken))] ^= 1 << int(random.integers(8))
        cases.append(bytes(broken))
    for data in cases:
        path.write_bytes(data)
        try:
            file = read_torch_file(path)
            for name in file.tensors:
                file.bytes_of(name).tobytes()
            outcomes["opened"] += 1
        except EmpuError:
            outcomes["refused"] += 1
    assert outcomes["refused"] >= len(whole)
    print(outcomes)


@pytest.mark.parametrize("write", ["legacy", "plain pickle", "compressed"])
def test_other_containers_are_refused_by_name(write: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    if write == "legacy":
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    elif write == "plain pickle":
        path.write_bytes(pickle.dumps({"w": 1}))
    else:
        torch.save({"w": torch.ones(2)}, path)
        source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name in source.namelist():
                file.writestr(name, source.read(name))
    with pytest.raises(CheckpointError):
        read_torch_file(path)
