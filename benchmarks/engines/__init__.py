"""Other engines on the task of ours: trl's trainers in an environment of their own, published scripts as plain loops."""
