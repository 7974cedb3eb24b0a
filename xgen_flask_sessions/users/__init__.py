"""The host's users: their table, their rank, and the changes that end their sessions.

Knows the host's user model. Must not know tokens' signatures, requests or screens.
"""
