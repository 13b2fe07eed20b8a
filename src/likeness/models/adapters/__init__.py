"""The plug-point ``adapter``: which parameters are trained, how they are switched off, saved and loaded again."""
