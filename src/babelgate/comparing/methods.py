"""The methods of a comparison by name, in the order in which they run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ..errors import UserError, did_you_mean
from . import (
    adasteer_methods,
    cast_methods,
    gate_methods,
    guard_front,
    omniguard_methods,
    readout_methods,
    ungated_methods,
)
from .building import Builder, register

METHODS: dict[str, Builder] = {
    "base": ungated_methods.base,
    **gate_methods.BUILDERS,
    **ungated_methods.BUILDERS,
    **readout_methods.BUILDERS,
    **cast_methods.BUILDERS,
    **omniguard_methods.BUILDERS,
    **adasteer_methods.BUILDERS,
    **guard_front.BUILDERS,
}

#: Registers one more builder under a name: ``@method("name")``.
method = partial(register, METHODS)


def chosen_methods(names: Sequence[str] | None, *, cast_data: bool, guard: bool) -> list[str]:
    """Return the methods to compare, ``base`` first; by default all that can run.

    ``cast_data`` and ``guard`` say whether CAST's data and a guard were given.

    Raises:
        UserError: for a name that does not exist, or one that needs what was not given.
    """
    missing = set() if cast_data else set(cast_methods.BUILDERS)
    missing |= set() if guard else set(guard_front.BUILDERS)
    if names is None:
        return [name for name in METHODS if name not in missing]
    for name in names:
        if name not in METHODS:
            raise UserError(f"method {name!r} does not exist.{did_you_mean(name, list(METHODS))}")
        if name in missing:
            flag = "--guard MODEL" if name in guard_front.BUILDERS else "--cast-data FOLDER"
            raise UserError(f"method {name!r} needs `{flag}`")
    return list(dict.fromkeys(["base", *names]))
