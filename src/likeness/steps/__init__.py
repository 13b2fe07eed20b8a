"""The pipeline's steps: thin functions over named paths."""
