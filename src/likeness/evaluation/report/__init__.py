"""One self-contained HTML page about one run: no script, no network, the same bytes for the same inputs."""
