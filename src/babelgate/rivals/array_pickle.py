"""Numpy arrays out of pickle files, without running what a pickle can ask to be run.

Nothing that the file names is imported or called: the few names that an array's pickle needs stand
for recorders of ours, which note shape, number type and bytes. The array is made from those.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import UserError

_KINDS = frozenset("biuf")


def array_from_pickle(data: bytes, name: str) -> np.ndarray:
    """Return the one numpy array that a pickle holds; ``name`` is what errors call it.

    Arrays and numpy scalars of booleans, integers and floats, as numpy 1 and 2 pickle them.

    Raises:
        UserError: if the pickle names anything else (the message says what), holds another kind of
            array, or is cut off or damaged.
    """
    try:
        found = _Unpickler(io.BytesIO(data)).load()
        return _as_array(found)
    except _Refused as refused:
        raise UserError(f"{name} is refused: {refused}. Only plain numpy arrays are read") from None
    # A damaged pickle can fail in any of these ways.
    except (
        pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError,
        AttributeError, ImportError, OverflowError, MemoryError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{name} is not a whole pickle of a numpy array ({error or type(error).__name__}); "
            "fetch it again"
        ) from None


class _Refused(Exception):
    """What the file asks for and may not have."""


class _Named:
    """Stands for a name in the file; may be called, but not changed."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it changes what its names stand for")


class _Type:
    """A recorded number type; complete once its byte order is known."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        _version, order, subtype, names, fields, *_ = state
        if (subtype, names, fields) != (None, None, None):
            raise _Refused("it holds an array of records")
        self.order = order

    def resolve(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.order not in ("<", ">", "=", "|"):
            raise _Refused("its number type is not one")
        kind, size = self.code[:1], self.code[1:]
        if kind not in _KINDS or not size.isdecimal():
            raise _Refused(f"it holds an array of type {self.code!r}, not of numbers")
        return np.dtype(f"{self.order}{kind}{size}")


class _Array:
    """A recorded array."""

    def __init__(
        self, shape: Any = None, kind: Any = None, data: Any = None, order: Any = "C"
    ) -> None:
        self.shape, self.kind, self.data, self.fortran = shape, kind, data, order == "F"

    def __setstate__(self, state: Any) -> None:
        _version, self.shape, self.kind, self.fortran, self.data = state


def _as_array(found: Any) -> np.ndarray:
    if not isinstance(found, _Array):
        raise _Refused(f"it holds {type(found).__name__.lstrip('_').lower()}, not an array")
    if not isinstance(found.kind, _Type):
        raise _Refused("its number type is not one")
    kind = found.kind.resolve()
    shape = found.shape
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise _Refused(f"its shape is {shape!r}")
    if not isinstance(found.data, bytes) or len(found.data) != math.prod(shape) * kind.itemsize:
        raise _Refused(f"its bytes do not make an array of shape {list(shape)}")
    order = "F" if found.fortran else "C"
    made = np.frombuffer(found.data, dtype=kind).reshape(shape, order=order)
    return made.astype(kind.newbyteorder("="), order="C")


class _Unpickler(pickle.Unpickler):
    """Knows the names that an array's pickle needs and no others."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        known = {
            ("multiarray", "_reconstruct"): lambda *_: _Array(),
            ("multiarray", "scalar"): lambda kind, data: _Array((), kind, data),
            # Pickle protocol 5 writes arrays so.
            ("numeric", "_frombuffer"): lambda data, kind, shape, order: _Array(
                shape, kind, bytes(data) if isinstance(data, bytearray) else data, order
            ),
        }
        self._names = {
            (f"numpy.{core}.{module}", name): _Named(make)
            for core in ("core", "_core")
            for (module, name), make in known.items()
        }
        self._names["numpy", "ndarray"] = _Named(_no_call)
        self._names["numpy", "dtype"] = _Named(_Type)

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        found = self._names.get((module_name, global_name))
        if found is None:
            raise _Refused(f"it names {module_name}.{global_name}")
        return found

    def persistent_load(self, pid: Any, /) -> Any:
        raise _Refused("it refers to objects outside the file")


def _no_call(*_: Any) -> Any:
    raise _Refused("it calls numpy.ndarray")
