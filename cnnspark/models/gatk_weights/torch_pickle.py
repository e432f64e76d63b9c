"""The arrays of a pickle that PyTorch wrote (``torch.save``, 1.6 or later), read without PyTorch and without pickle.

The pickle inside such a file is a program for a small stack machine that may call anything. Here it is only *read*:
its operations build plain values, and a class or a function becomes a record of its name. Nothing is imported and
nothing is called, whatever the file says, so a whole pickled module can be read although its class is in no installed
package. Python's own Unpickler, however restricted, would still look up and call what it is handed, and a file can make
it allocate any amount of memory (CPython issue 115952).
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# The pickle of GATK's networks takes 9 kB; a much larger one is something else, and slow to read.
MAX_PICKLE_BYTES = 1 << 20
# Deeper than any network, and far from Python's own limit.
MAX_DEPTH = 32
MAX_ARRAYS = 10_000
# A small pickle can also name one thing over and over, so these are limited. A network has hundreds of members.
MAX_MEMBERS = 100_000
MAX_NAME = 1000
MAX_DIMENSIONS = 32  # numpy's own limit

DTYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
}
# Parts of Python that no weights need, under their names in Python 3 and 2. A file that names one is hostile.
_PYTHON = sys.stdlib_module_names | {"builtins", "__builtin__", "copy_reg", "commands", "cPickle", "exceptions", "nt"}
_HARMLESS = {("collections", "OrderedDict"), ("builtins", "set"), ("__builtin__", "set"), ("__builtin__", "object")}
_PLAIN_TORCH = {"device", "Size", "float16", "float32", "float64", "int32", "int64"}


class UnsafePickleError(Exception):
    """The pickle asks for something that weights do not need; the message says what it asks for."""


@dataclass(frozen=True, eq=False)
class Global:
    """The name of a class or function, in place of the thing itself."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:80]


@dataclass(frozen=True, eq=False)
class Storage:
    """A member of the zip.

    Attributes:
        key: Its name.
        dtype: NumPy's name of the numbers' type, without byte order.
        count: How many numbers it holds.
    """

    key: str
    dtype: str
    count: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage, never beyond its end; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def storage_bytes(self) -> int:
        """Size of the whole storage."""
        return self.storage.count * np.dtype(self.storage.dtype).itemsize


@dataclass(frozen=True, eq=False)
class Instance:
    """An object with its attributes, whose class is known by name alone."""

    of: Global
    state: dict[str, Any] = field(default_factory=dict)


def read_pickle(data: bytes) -> Any:
    """The value that a pickle describes, made of plain values and the records above.

    Raises:
        UnsafePickleError: if the pickle asks for more than that.
        ValueError, IndexError, KeyError, TypeError: if it is damaged or too large.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise ValueError(f"its pickle has {len(data)} bytes")
    return _Machine().run(data)


def named_tensors(tree: Any) -> dict[str, Tensor]:
    """The tensors of a state dict, or of a whole module by the names that its state dict would give them.

    Raises:
        ValueError: if ``tree`` (:func:`read_pickle`) is neither, or holds too many arrays.
    """
    if isinstance(tree, dict):
        inner = tree.get("state_dict")
        values = inner if isinstance(inner, dict) else tree
        return {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    if not isinstance(tree, Instance):
        raise ValueError("it holds neither a network nor a dict of arrays")
    found: dict[str, Tensor] = {}
    for name, tensor in _Modules().tensors(tree, "", 0):
        found[name] = tensor
        if len(found) > MAX_ARRAYS:
            raise ValueError(f"it holds more than {MAX_ARRAYS} arrays")
    return found


class _Modules:
    """A walk over modules that visits each once.

    Otherwise a shared module would be visited on every path to it, and there are 2^n paths through n modules that each
    hold the next one twice.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._members_left = MAX_MEMBERS

    def tensors(self, module: Instance, prefix: str, depth: int) -> Iterator[tuple[str, Tensor]]:
        """The tensors below ``module`` with their names; a shared module's under the first one."""
        if depth > MAX_DEPTH:
            raise ValueError("its modules are nested without end")
        if len(prefix) > MAX_NAME:
            raise ValueError("its names are too long")
        self._seen.add(id(module))
        for group in ("_parameters", "_buffers"):
            for name, value in self._members(module, group):
                if isinstance(value, Tensor):
                    yield f"{prefix}{name}"[: 2 * MAX_NAME], value
        for name, value in self._members(module, "_modules"):
            if isinstance(value, Instance) and id(value) not in self._seen:
                yield from self.tensors(value, f"{prefix}{name}.", depth + 1)

    def _members(self, module: Instance, group: str) -> list[tuple[Any, Any]]:
        members = module.state.get(group)
        if not isinstance(members, dict):
            return []
        self._members_left -= len(members)
        if self._members_left < 0:
            raise ValueError(f"its modules have more than {MAX_MEMBERS} members")
        return list(members.items())


def tensor_array(tensor: Tensor, data: bytes, byte_order: str) -> np.ndarray:
    """The numbers of a tensor.

    Args:
        tensor: Says where they are in its storage.
        data: The bytes of the storage.
        byte_order: Of the storage, "<" or ">".

    Returns:
        A copy of the tensor's shape, in this machine's byte order.
    """
    flat = np.frombuffer(data, np.dtype(byte_order + tensor.storage.dtype), tensor.storage.count)
    strides = tuple(stride * flat.itemsize for stride in tensor.strides)
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False)
    return view.astype(flat.dtype.newbyteorder("="), order="C")


_MARK = object()
# Operations that push their own argument.
_LITERALS = {
    *("INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": list,  # a set's members may be anything, and nothing here asks for one
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine of pickle (documented in ``pickletools``), without the operations that load or call."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[Any, Any] = {}  # a dict, so that a number of 2**31 costs nothing
        self.attributes_left = MAX_MEMBERS

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
            name = opcode.name
            if name == "STOP":
                break
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _TUPLES:
                self.stack.append(tuple(reversed([self._pop() for _ in range(_TUPLES[name])])))
            elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
                self.memo[argument] = self._top()
            elif name in ("GET", "BINGET", "LONG_BINGET"):
                self.stack.append(self.memo[argument])
            else:
                operation = getattr(self, f"_op_{name.lower()}", None)
                if operation is None:
                    raise UnsafePickleError(f"uses the operation {name}")
                operation(argument)
        return self._pop()

    def _top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise ValueError("a mark stands where a value is needed")
        return self.stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        self.stack.pop()
        return value

    def _pop_to_mark(self) -> list[Any]:
        for at in range(len(self.stack) - 1, -1, -1):
            if self.stack[at] is _MARK:
                values = self.stack[at + 1 :]
                del self.stack[at:]
                return values
        raise ValueError("a mark is missing")

    def _op_proto(self, _: Any) -> None: ...

    def _op_frame(self, _: Any) -> None: ...

    def _op_mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _op_pop(self, _: Any) -> None:
        self.stack.pop()

    def _op_pop_mark(self, _: Any) -> None:
        self._pop_to_mark()

    def _op_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self._top()

    def _op_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._pop_to_mark()))

    def _op_list(self, _: Any) -> None:
        self.stack.append(self._pop_to_mark())

    def _op_dict(self, _: Any) -> None:
        values = self._pop_to_mark()
        self.stack.append({})
        self._set_items(values)

    def _op_append(self, _: Any) -> None:
        self._extend([self._pop()])

    def _op_appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    _op_additems = _op_appends

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise ValueError("appends to what is not a list")
        target.extend(values)

    def _op_setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _op_setitems(self, _: Any) -> None:
        self._set_items(self._pop_to_mark())

    def _set_items(self, values: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("sets items of what is not a dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # The hash of tuples nested a hundred thousand deep would end the process.
            if not isinstance(key, (str, bytes, int, float, type(None))):
                raise ValueError("a key of a dict is not a plain value")
            # Unlike a text's, a number's hash is computed each time.
            if isinstance(key, int) and key.bit_length() > 64:
                raise ValueError("a key of a dict is a huge number")
            target[key] = value

    def _op_global(self, argument: str) -> None:
        self._push_global(*argument.split(" ", 1))

    def _op_stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._push_global(module, name)

    def _push_global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a name is not text")
        if len(module) + len(name) > MAX_NAME:
            raise ValueError("a name is too long")
        found = Global(module, name)
        if not _known(found):
            raise UnsafePickleError(f"names {found}")
        self.stack.append(found)

    def _op_newobj(self, _: Any) -> None:
        self._pop()  # the arguments of __new__
        self._push_instance(self._pop())

    def _op_newobj_ex(self, _: Any) -> None:
        self._pop()
        self._op_newobj(_)

    def _push_instance(self, of: Any) -> None:
        if not isinstance(of, Global):
            raise ValueError("makes an object of what is not a class")
        self.stack.append(Instance(of))

    def _op_build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, dict):
            return  # the attributes of an OrderedDict: versions of modules
        if not isinstance(target, Instance):
            raise ValueError("sets attributes of what is not an object")
        # Attributes, and those in slots.
        for part in state[:2] if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                # One dict may be the state of many objects, and is copied for each.
                self.attributes_left -= len(part)
                if self.attributes_left < 0:
                    raise ValueError(f"its objects have more than {MAX_MEMBERS} attributes")
                target.state.update(part)

    def _op_binpersid(self, _: Any) -> None:
        """``('storage', type, key, device, count)``: the only thing that PyTorch keeps outside of the pickle."""
        kind, storage, key, _device, count = self._pop()
        if kind != "storage" or not isinstance(storage, Global) or storage.name not in DTYPES:
            raise ValueError(f"an array is of a type that is not known ({getattr(storage, 'name', kind)!s:.40})")
        if not isinstance(key, str) or len(key) > MAX_NAME or not key.isdecimal() or not _is_size(count):
            raise UnsafePickleError("keeps an array under a name that PyTorch does not give")
        self.stack.append(Storage(key, DTYPES[storage.name], count))

    def _op_reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise UnsafePickleError("calls what is not a function")
        self.stack.append(_result(function, arguments))


def _known(name: Global) -> bool:
    """Whether a network's pickle may name this: anything except the parts of Python and PyTorch that have effects."""
    root, _, rest = name.module.partition(".")
    if (name.module, name.name) in _HARMLESS:
        return True
    if root != "torch":
        return root not in _PYTHON
    if not rest:
        return name.name in DTYPES or name.name in _PLAIN_TORCH
    return rest.startswith("nn.") or (rest == "_utils" and name.name in _REBUILDERS)


def _result(function: Global, arguments: tuple[Any, ...]) -> Any:
    """The result of the few functions that a file of weights calls. Raises UnsafePickleError for any other."""
    if function.module == "torch._utils":
        return _REBUILDERS[function.name](arguments)
    if function.name == "OrderedDict" and not arguments:
        return {}
    if function.name == "set" or (function.module == "torch" and function.name in _PLAIN_TORCH):
        return Instance(function)
    raise UnsafePickleError(f"calls {function}")


def _rebuilt_tensor(arguments: tuple[Any, ...]) -> Tensor:
    """``(storage, offset, shape, strides, ...)``, in elements."""
    storage, offset, shape, strides = arguments[:4]
    fits = isinstance(storage, Storage) and len(shape) == len(strides) <= MAX_DIMENSIONS
    if not fits or not all(map(_is_size, (offset, *shape, *strides))):
        raise ValueError("an array has no proper shape")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 in shape or last >= storage.count:
        raise ValueError(f"an array of shape {tuple(shape)} does not lie within its {storage.count} numbers")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 40


_REBUILDERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "_rebuild_tensor": _rebuilt_tensor,
    "_rebuild_tensor_v2": _rebuilt_tensor,
    "_rebuild_parameter": lambda arguments: arguments[0],
    "_rebuild_parameter_with_state": lambda arguments: arguments[0],
}
