"""What a density is good for, one quantity per file."""
