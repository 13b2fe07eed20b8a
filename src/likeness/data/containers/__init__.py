"""Plug-point ``container``: files that hold many pictures. Each module brings one kind."""
