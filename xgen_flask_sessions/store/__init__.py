"""The plugin's tables and every statement that changes them.

Knows the tables, the locks that order sign-ins and revocations, transactions and migrations, and
the differences between databases. Must not know tokens, the host's user table or Flask.
"""
