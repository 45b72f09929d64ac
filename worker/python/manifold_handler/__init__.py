"""Runs one model's Python handler in a process of its own, for `manifold-worker`.

Nothing here is on a user's import path before their own modules: the worker puts this package at the end of it.
"""
