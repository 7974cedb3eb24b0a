"""Signed-in users and their sessions: the queries behind the screen, the JSON API and the commands.

Knows how to count, order, search and page active users and sessions. Must not know requests, or
permissions.
"""
