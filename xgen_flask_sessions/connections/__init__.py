"""Connections of the plugin's own to the host's database, with a deadline on every call.

Knows drivers, sockets and pools. Must not know a table, a token or Flask.
"""
