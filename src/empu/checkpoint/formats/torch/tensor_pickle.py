"""The pickle inside a ``.pth`` file, read by an interpreter that can build descriptions of tensors and nothing else.

A pickle is a program, and Python's unpickler runs it with access to every importable function. This interpreter knows
some forty instructions. Each builds a dict, list, tuple, string, number or tensor description. Names of functions
(``GLOBAL``) are looked up in a table of fixed strings and become markers, so nothing is imported. "Calling" a marker
(``REDUCE``) runs one of three functions of this file. Everything that is not in the tables is refused by its name.

Sources: CPython's ``pickletools`` for the instructions; PyTorch's ``torch/serialization.py`` and ``torch/_utils.py``
for the descriptions of tensors.
"""

from __future__ import annotations

import enum
import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from empu.errors import CheckpointError
from empu.system.quoting import quoted

PICKLE_LIMIT = 64 << 20
"""Bytes of one pickle. The one of Llama 3.1 405B has about 200 KB."""
STEP_LIMIT = 1 << 20
"""Instructions of one pickle. Each allocates at most a few hundred bytes, so this bounds memory as well."""
MAX_DIMENSIONS = 8


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat array: ``n_values`` values of ``dtype`` in the archive member ``data/<key>``."""

    dtype: str
    key: str
    n_values: int


@dataclass(frozen=True, slots=True)
class TensorDescription:
    """A tensor as described by the pickle: ``shape`` values of ``storage`` from ``offset`` on, row by row."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]


class PickleFunction(enum.Enum):
    """Markers for the functions that a pickle of tensors refers to."""

    ORDERED_DICT = "collections.OrderedDict"
    REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
    REBUILD_PARAMETER = "torch._utils._rebuild_parameter"


@dataclass(frozen=True, slots=True)
class StorageClass:
    """The marker for a storage class of torch, such as ``BFloat16Storage``."""

    name: str


_FUNCTIONS = {function.value: function for function in PickleFunction}
_STORAGES = {
    f"torch.{dtype}Storage": StorageClass(f"{dtype}Storage")
    for dtype in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
}


class _Mark:
    """The mark on the stack that MARK pushes."""


_MARK = _Mark()


def read_tensor_pickle(data: bytes, where: str) -> dict[str, TensorDescription]:
    """Return the descriptions of all tensors by name, in order.

    Raises :class:`CheckpointError`, naming the instruction and its byte offset, for everything but a dict from names to
    tensors.
    """
    if len(data) > PICKLE_LIMIT:
        raise CheckpointError(f"{where} has {len(data):,} bytes; at most {PICKLE_LIMIT:,} are read.")
    result = _Interpreter(data, where).run()
    if type(result) is not dict:
        raise CheckpointError(f"{where} holds a {type(result).__name__}; expected a dict from names to tensors.")
    for name, value in result.items():
        if type(value) is not TensorDescription:
            raise CheckpointError(f"{where}: {quoted(name)} is a {type(value).__name__}; expected a tensor.")
    return result


@dataclass
class _Interpreter:
    """Executes one pickle. Methods are named after the instructions or the stack operations they need."""

    data: bytes
    where: str
    position: int = 0
    instruction_at: int = 0
    """Byte offset of the current instruction, for error messages."""
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def run(self) -> object:
        for _ in range(STEP_LIMIT):
            self.instruction_at = self.position
            code = self.take(1)[0]
            if code == _STOP:
                return self.finish()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise self.refuse(f"the instruction {_opcode_name(code)} is not among those of tensor files")
            handler(self)
        raise self.refuse(f"there are more than {STEP_LIMIT:,} instructions")

    def finish(self) -> object:
        value = self.pop()
        if self.stack or self.position != len(self.data):
            raise self.refuse("there is data after the end")
        return value

    def refuse(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.where}, byte {self.instruction_at:,}: {reason}; no file of weights needs this, so it is not opened."
        )

    # Input, stack and memo.

    def take(self, count: int) -> bytes:
        chunk = self.data[self.position : self.position + count]
        if len(chunk) != count:
            raise self.refuse("the pickle is cut off")
        self.position += count
        return chunk

    def unpack(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def text(self, length: int) -> str:
        try:
            return self.take(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self.refuse("a string is not UTF-8") from None

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise self.refuse("a name has no end")
        text = self.text(end - self.position)
        self.position += 1
        return text

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or self.stack[-1] is _MARK:
            raise self.refuse("the stack is empty")
        return self.stack.pop()

    def top(self, type_: type, instruction: str) -> Any:
        if not self.stack or type(self.stack[-1]) is not type_:
            raise self.refuse(f"{instruction} needs a {type_.__name__}")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        for depth in range(len(self.stack) - 1, -1, -1):
            if self.stack[depth] is _MARK:
                items = self.stack[depth + 1 :]
                del self.stack[depth:]
                return items
        raise self.refuse("there is no mark on the stack")

    def put(self, index: int) -> None:
        if index in self.memo:
            raise self.refuse(f"memo {index} is written twice")
        value = self.pop()
        self.push(value)
        self.memo[index] = value

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.refuse(f"memo {index} was never written")
        self.push(self.memo[index])

    # Instructions that need more than one line.

    def protocol(self) -> None:
        version = self.take(1)[0]
        if self.instruction_at != 0 or not 2 <= version <= 5:
            raise self.refuse(f"protocol {version} is not one that torch.save writes here")

    def frame(self) -> None:
        if self.unpack("<Q") > len(self.data) - self.position:
            raise self.refuse("a frame is longer than the pickle")

    def long1(self) -> None:
        self.push(int.from_bytes(self.take(self.take(1)[0]), "little", signed=True))

    def tuple_of(self, count: int) -> None:
        self.push(tuple(reversed([self.pop() for _ in range(count)])))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top(dict, "SETITEMS")
        if len(pairs) % 2:
            raise self.refuse("a key has no value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) is not str:
                raise self.refuse(f"a key is a {type(key).__name__} and not a string")
            if key in target:
                raise self.refuse(f"the key {quoted(key)} is set twice")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def extend(self, items: list[Any]) -> None:
        self.top(list, "APPENDS").extend(items)

    def push_global(self, module: str, name: str) -> None:
        full_name = f"{module}.{name}"
        marker = _FUNCTIONS.get(full_name) or _STORAGES.get(full_name)
        if marker is None:
            raise self.refuse(f"it asks for {quoted(full_name)}")
        self.push(marker)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise self.refuse("STACK_GLOBAL needs two strings")
        self.push_global(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is not PickleFunction or type(arguments) is not tuple:
            raise self.refuse(f"it calls a {type(function).__name__}")
        if function is PickleFunction.ORDERED_DICT:
            self.push(self.ordered_dict(arguments))
        elif function is PickleFunction.REBUILD_TENSOR:
            self.push(self.rebuild_tensor(arguments))
        else:
            self.push(self.rebuild_parameter(arguments))

    def ordered_dict(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if arguments:
            raise self.refuse("an OrderedDict is made from arguments")
        return {}

    def rebuild_tensor(self, arguments: tuple[Any, ...]) -> TensorDescription:
        if len(arguments) not in (6, 7):
            raise self.refuse(f"a tensor has {len(arguments)} arguments")
        storage, offset, shape, strides, requires_grad, hooks = arguments[:6]
        if type(storage) is not Storage or type(requires_grad) is not bool or hooks != {} or any(arguments[6:]):
            raise self.refuse("a tensor has no storage, or hooks")
        if not (_is_size(offset) and _are_sizes(shape) and _are_sizes(strides) and len(shape) == len(strides)):
            raise self.refuse("a tensor's offset, shape or strides are not whole numbers from 0")
        if not _is_contiguous(shape, strides):
            raise self.refuse("a tensor does not lie row by row; save it again with .contiguous()")
        if offset + math.prod(shape) > storage.n_values:
            raise self.refuse(f"a tensor reaches past the {storage.n_values:,} values of its storage")
        return TensorDescription(storage, offset, shape)

    def rebuild_parameter(self, arguments: tuple[Any, ...]) -> TensorDescription:
        if len(arguments) != 3 or type(arguments[0]) is not TensorDescription or arguments[2] != {}:
            raise self.refuse("a parameter is not a plain tensor")
        return arguments[0]

    def storage(self) -> None:
        parts = self.pop()
        if type(parts) is not tuple or len(parts) != 5 or parts[0] != "storage" or type(parts[1]) is not StorageClass:
            raise self.refuse("a persistent id is not that of a storage")
        _, storage_class, key, location, n_values = parts
        if type(key) is not str or not (key.isascii() and key.isdigit() and len(key) <= 9):
            raise self.refuse("a storage's key is not a number")
        if type(location) is not str or not _is_size(n_values):
            raise self.refuse("a storage's location or length has the wrong type")
        self.push(Storage(storage_class.name, key, n_values))

    def build(self) -> None:
        """Drop the attributes of an OrderedDict: ``state_dict()`` keeps version numbers there."""
        state = self.pop()
        self.top(dict, "BUILD")
        if type(state) is not dict or state.keys() != {"_metadata"}:
            raise self.refuse("it sets attributes of an object")


def _opcode_name(code: int) -> str:
    return next((op.name for op in pickletools.opcodes if op.code == chr(code)), hex(code))


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _are_sizes(value: object) -> bool:
    return type(value) is tuple and len(value) <= MAX_DIMENSIONS and all(map(_is_size, value))


def _is_contiguous(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Return whether the strides are row-major. The stride of a dimension of length 1 does not matter."""
    step = 1
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


_STOP = ord(".")
_HANDLERS: dict[int, Callable[[_Interpreter], None]] = {
    0x80: _Interpreter.protocol,
    0x95: _Interpreter.frame,
    ord("("): lambda m: m.push(_MARK),
    # Constants and numbers.
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.unpack("<i")),
    ord("K"): lambda m: m.push(m.unpack("<B")),
    ord("M"): lambda m: m.push(m.unpack("<H")),
    0x8A: _Interpreter.long1,
    ord("G"): lambda m: m.push(m.unpack(">d")),
    # Strings.
    ord("X"): lambda m: m.push(m.text(m.unpack("<I"))),
    0x8C: lambda m: m.push(m.text(m.unpack("<B"))),
    # Containers.
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("s"): _Interpreter.set_item,
    ord("e"): lambda m: m.extend(m.pop_to_mark()),
    ord("a"): lambda m: m.extend([m.pop()]),
    # Memo.
    ord("q"): lambda m: m.put(m.unpack("<B")),
    ord("r"): lambda m: m.put(m.unpack("<I")),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.get(m.unpack("<B")),
    ord("j"): lambda m: m.get(m.unpack("<I")),
    # Tensors.
    ord("c"): lambda m: m.push_global(m.line(), m.line()),
    0x93: _Interpreter.stack_global,
    ord("Q"): _Interpreter.storage,
    ord("R"): _Interpreter.reduce,
    ord("b"): _Interpreter.build,
}
"""Supported instructions by opcode."""
