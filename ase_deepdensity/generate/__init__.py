"""Reference densities of many geometries, in a folder that several processes can work on."""

from ase_deepdensity.generate.folder import Summary, generate

__all__ = ['Summary', 'generate']
