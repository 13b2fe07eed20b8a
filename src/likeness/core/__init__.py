"""Configs, steps, artefacts, registry, errors and atomic files. Imports neither torch nor any pipeline tool."""
