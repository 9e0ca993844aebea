"""What a person would rather see: slices, lines, isosurfaces, cards for notebooks."""
