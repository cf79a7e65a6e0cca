"""Pickles of plain data, read without running anything that a file names.

A pickle is a program that may call any function by name. Here each name that plain data need stands for a harmless
function of this module or a plain container; any other is refused before it is used. Arrays are NumPy's of numbers,
and texts; arrays of objects hold plain data again. Readers of other files give :class:`SafeUnpickler` their own table.
"""

from posekit.safe_pickle.joblib_files import load_joblib
from posekit.safe_pickle.reader import SafeUnpickler, guarded, load_npz_object, load_object_array, load_pickle
from posekit.safe_pickle.stand_ins import (
    ARRAY_NAMES,
    CONTAINER_NAMES,
    PLAIN_NAMES,
    Named,
    PlainType,
    RefusedPickleError,
    broken_text,
    shown,
)

__all__ = [
    "ARRAY_NAMES",
    "CONTAINER_NAMES",
    "PLAIN_NAMES",
    "Named",
    "PlainType",
    "RefusedPickleError",
    "SafeUnpickler",
    "broken_text",
    "guarded",
    "load_joblib",
    "load_npz_object",
    "load_object_array",
    "load_pickle",
    "shown",
]
