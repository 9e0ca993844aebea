"""Loss, loop, checkpoints: from a data set to a model."""
