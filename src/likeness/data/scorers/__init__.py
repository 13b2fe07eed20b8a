"""Plug-point ``scorer``: what is measured on each picture, as columns that ``where`` reads. Each module brings one."""
