"""Where geometries come from: one file per kind, and which of them a model of the periodic table is trained on."""
