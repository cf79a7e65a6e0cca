"""Reading text files of motion capture, with the line in every complaint."""

from __future__ import annotations

from pathlib import Path

from posekit.errors import UserError


def read_text(path: Path, what: str) -> str:
    """Reads a text file: UTF-8, with its mark at the beginning or not, or Latin-1.

    Args:
        path: The file.
        what: What to call it in messages, e.g. ``"motion file"``.

    Raises:
        UserError: It is absent, empty or no text.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise UserError(f"{what} {path} {reason}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if not text.strip():
        raise UserError(f"{what} {path} is empty")
    if "\0" in text:
        raise UserError(f"{what} {path} is no text file")
    return text


def to_floats(path: Path, what: str, line: int, words: list[str]) -> list[float]:
    """Turns words into numbers; NaN and infinities are passed on.

    Raises:
        UserError: A word is no number.
    """
    try:
        return [float(word) for word in words]
    except ValueError:
        bad = next(word for word in words if not _is_number(word))
        raise UserError(f"{what} {path}: line {line} has {bad[:30]!r} where a number belongs") from None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
