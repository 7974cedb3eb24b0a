"""HTTP requests: find and check the token, answer refusals, set cookies, guard forms and streams.

Knows Flask, Flask-Login and browsers. Must not know the screen, the commands or the
plugin's SQL statements.
"""
