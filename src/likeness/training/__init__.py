"""One trainer, and the algorithms it runs."""
