"""Configs: reading them, what is wrong with them, what a command line changes."""
