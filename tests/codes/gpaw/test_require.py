"""Where GPAW is missing."""

import pytest

from ase_deepdensity.codes.gpaw import HOW_TO_INSTALL, MissingGPAWError, require_gpaw
