"""Other engines on the task of ours: trl's trainers in their own environment, published scripts as plain loops."""
