"""Damage to JSON and YAML files, by seed: keys and bytes lost, other types, odd numbers, repeated and torn lists."""

import json
import math
import random
import re
import signal
from contextlib import contextmanager
from copy import deepcopy

ODD = (
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e300, 10**30, -(10**30), 2**63, math.nan, math.inf, -math.inf,
    "", "x", "1", "../x", "a\0b", "\ud800", "[/b]", [], {}, [[]], [1], [None], {"id": 1}, {"a": [1]},
)  # fmt: skip
BYTES = (b"\xff", b"\x00", b"\xc3\x28", b"\xed\xa0\x80", b"{", b"]", b'"', b"\n", b"-", b"9" * 5000, b"e99999")


def damaged(content, count, seed, dump=json.dumps):
    """Yields (what was done, bytes of the file) so many times; two in three keep the file's form."""
    text = dump(content)
    for trial in range(count):
        rng = random.Random(f"{seed}-{trial}")
        if rng.random() < 1 / 3:
            yield _torn(text.encode(), rng)
            continue
        copy, done = json.loads(json.dumps(content)), []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            word, copy = _changed(copy, rng)
            done.append(word)
        yield "; ".join(done), dump(copy).encode("utf-8", "surrogatepass")


def _torn(whole, rng):
    at = rng.randrange(len(whole))
    kind = rng.choice(("cut", "cut", "put", "put", "lost", "number", "mark", "deep", "empty"))
    if kind == "cut":
        return f"cut at {at}", whole[:at]
    if kind == "put":
        piece = rng.choice(BYTES)
        return f"{piece[:8]!r} at {at}", whole[:at] + piece + whole[at + rng.randrange(2) :]
    if kind == "lost":
        return f"lost from {at}", whole[:at] + whole[at + rng.randrange(1, 40) :]
    if kind == "number":  # a number as long as Python refuses to read, or past every float
        digits = list(re.finditer(rb"\d+", whole))
        start, end = rng.choice(digits).span()
        return f"long number at {start}", whole[:start] + rng.choice((b"9" * 5000, b"9" * 400)) + whole[end:]
    if kind == "mark":
        return "a byte order mark", b"\xef\xbb\xbf" + whole
    return (kind, b"[" * 100_000) if kind == "deep" else (kind, b"")


def _odd(rng):
    return deepcopy(rng.choice(ODD))  # further damage is done in place


def _changed(content, rng):
    """Returns what was done and the changed content."""
    holder, key = _place(content, rng)
    if holder is None:
        value = _odd(rng)
        return f"all = {value!r}", value
    kind = rng.choice(("delete", "odd", "odd", "odd", "repeat", "wrap", "resize", "double"))
    if kind == "delete":
        del holder[key]
    elif kind == "wrap":
        holder[key] = [holder[key]]
    elif kind == "repeat" and isinstance(holder, list):
        holder.append(json.loads(json.dumps(holder[key])))
    elif kind == "resize" and isinstance(holder[key], list) and holder[key]:
        value = holder[key]
        holder[key] = value[:-1] if rng.random() < 0.5 else [*value, value[-1]]
    elif kind == "double" and _double(holder, rng):
        pass
    else:
        kind, holder[key] = "odd", _odd(rng)
    return f"{kind} {key!r}" + (f" = {holder[key]!r}"[:60] if kind == "odd" else ""), content


def _place(content, rng):
    """Returns a random place: every level is as likely as its parent's others, so that long lists do not win."""
    holder, key, value = None, None, content
    while isinstance(value, dict | list) and value and (holder is None or rng.random() < 0.75):
        if holder is None and rng.random() < 0.03:
            break
        holder = value
        key = rng.choice(sorted(value) if isinstance(value, dict) else range(len(value)))
        value = holder[key]
    return holder, key


def _double(holder, rng):
    """Gives an entry of a list a value of another one, e.g. its id."""
    entries = [e for e in holder if isinstance(e, dict) and e] if isinstance(holder, list) else []
    if len(entries) < 2:
        return False
    one, other = rng.sample(entries, 2)
    key = "id" if "id" in one and rng.random() < 0.5 else rng.choice(sorted(one))
    other[key] = one[key]
    return True


@contextmanager
def within(seconds):
    """Fails what takes more CPU time than that."""

    def stop(*_):
        raise AssertionError(f"it took more than {seconds} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
