"""A log file that is opened late: what has been written before goes in when it is."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gpaw.mpi import normalize_communicator
from gpaw.new.logger import Logger

if TYPE_CHECKING:
    from gpaw.mpi import MPIComm


def late_logger(txt: str | Path | IO[str] | None, communicator: MPIComm | None) -> tuple[Logger, Callable[[], None]]:
    """GPAW's logger, and what lets it open its file: one that is there is not overwritten before."""
    if not isinstance(txt, str | Path) or txt == '-' or normalize_communicator(communicator).rank > 0:
        return Logger(txt, communicator), lambda: None
    log = Logger(io.StringIO(), communicator)

    def open_file() -> None:
        if isinstance(log.fd, io.StringIO):
            written = log.fd.getvalue()
            log.fd, log.close_fd = Path(txt).open('w', encoding='utf-8'), True  # noqa: SIM115
            log.fd.write(written)

    return log, open_file
