"""What the rows and columns of an array in an HDF5 file stand for, written beside it."""

from __future__ import annotations

from collections.abc import Sequence

import h5py

from admm.errors import InputError
from admm.interfaces import Names

TIME = "time_utc"


def label(data: h5py.Dataset, time_utc: Sequence[str], names: Names | None = None) -> None:
    """Name the dimensions of an array, (periods,) or (periods, elements), and give each row and column its name.

    `dims[0].label` is "time_utc"; the attribute of that name has the time of each row. `dims[1].label` is the kind of
    elements, such as "node"; the attribute of that name has the name of each column. An array (periods,) has the one
    name that it belongs to as text.

    time_utc: the start of each period, ISO text; none without times. An array of fewer rows has the first periods.
    """
    texts = h5py.string_dtype()
    if len(time_utc) >= data.shape[0]:
        data.dims[0].label = TIME
        data.attrs.create(TIME, list(time_utc[: data.shape[0]]), dtype=texts)
    if names is None:
        return
    if data.ndim == 1 and len(names.each) == 1:
        data.attrs[names.kind] = names.each[0]
    elif data.ndim == 2 and len(names.each) == data.shape[1]:
        data.dims[1].label = names.kind
        data.attrs.create(names.kind, list(names.each), dtype=texts)
    else:
        raise InputError(f"{data.name} has shape {data.shape}, got {len(names.each)} names of kind '{names.kind}'")
