"""A writer of .cdf files with one variable, as MATLAB and NASA's library lay them out; versions 2.7 and 3."""

import gzip
import struct

import numpy as np


def write_cdf(path, array, name="Pose", wide=True, row_major=True, little=True, packed=False, file_packed=False):
    """Writes an array (records, *dims) of float32.

    Args:
        wide: Version 3, with offsets of 8 bytes; else version 2.7, with 4.
        packed: Compress the variable's block.
        file_packed: Compress the whole file.
    """
    offset = "q" if wide else "i"
    head = 12 if wide else 8
    dims = array.shape[1:]
    order = array if row_major else array.transpose(0, *range(array.ndim - 1, 0, -1))
    raw = np.ascontiguousarray(order).astype("<f4" if little else ">f4").tobytes()
    flags = (1 if row_major else 0) | 2

    def record(kind, form, *values, tail=b""):
        body = struct.pack(">" + form.replace("o", offset), *values) + tail
        return struct.pack(">qi" if wide else ">ii", head + len(body), kind) + body

    def build(places):
        cdr = record(1, "oiiiiiiiii", places["gdr"], 3 if wide else 2, 0, 6 if little else 1, flags, 0, 0, 1, 0, 0,
                     tail=b"test".ljust(256, b"\0"))  # fmt: skip
        gdr = record(2, "oooo" + "iiiii" + "o" + "iii", 0, places["vdr"], 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0)
        label = name.encode().ljust(256 if wide else 64, b"\0")
        sizes = struct.pack(f">i{len(dims)}i{len(dims)}i", len(dims), *dims, *[-1] * len(dims))
        vdr = record(8, "oiioo" + "iiiiiii" + "oi", 0, 44, len(array) - 1, places["vxr"], places["vxr"], 1, 0, 0, 0, 0,
                     1, 0, 0, 0, tail=label + sizes)  # fmt: skip
        vxr = record(6, "oii" + "iio", 0, 1, 1, 0, len(array) - 1, places["vvr"])
        if packed:
            block = gzip.compress(raw)
            vvr = record(13, "io", 0, len(block), tail=block)
        else:
            vvr = record(7, "", tail=raw)
        return {"cdr": cdr, "gdr": gdr, "vdr": vdr, "vxr": vxr, "vvr": vvr}

    parts = build(dict.fromkeys(("gdr", "vdr", "vxr", "vvr"), 0))
    places, at = {}, 8
    for key, part in parts.items():
        places[key] = at
        at += len(part)
    content = b"".join(build(places).values())
    magic = 0xCDF30001 if wide else 0xCDF26002
    if not file_packed:
        path.write_bytes(struct.pack(">II", magic, 0x0000FFFF) + content)
        return
    block = gzip.compress(content)
    size = head + struct.calcsize(">" + f"{offset}{offset}i") + len(block)
    ccr = record(10, "ooi", 8 + size, len(content), 0, tail=block)
    path.write_bytes(struct.pack(">II", magic, 0xCCCC0001) + ccr + record(11, "iiii", 5, 0, 1, 6))
