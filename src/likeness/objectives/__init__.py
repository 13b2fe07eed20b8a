"""Per-sample losses: pure functions, nothing reduced inside."""
