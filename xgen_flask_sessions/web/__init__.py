"""Requests: which token one carries, whether it passes, and the answer where it does not.

Knows Flask, Flask-Login and browsers. Must not know a screen, a command or a statement.
"""
