"""The plugin's own connections to the host's database, with a deadline on every call.

Knows drivers, sockets, pools and the options of Redis clients. Must not know a table, a token or
Flask.
"""
