"""The parser of posekit's own commands."""

from __future__ import annotations

import argparse
from typing import NoReturn

from posekit.errors import UserError


class ArgumentParser(argparse.ArgumentParser):
    """Refuses bad input with one line instead of a page of usage; so do its sub-commands' parsers."""

    def error(self, message: str) -> NoReturn:
        """Raises the one line.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.prog}: {message} (see {self.prog} --help)")
