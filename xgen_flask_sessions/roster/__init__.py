"""Signed-in users and their sessions: the queries behind the screen, the JSON API and the commands.

Knows how to count, order, search and page active users and sessions, and the query parameters of
a list. Must not know Flask, or permissions.
"""
