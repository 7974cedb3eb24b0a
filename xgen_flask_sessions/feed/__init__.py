"""How other processes hear of a revocation: by the feed's table, or by Redis.

Knows the feed, its readers and its copy in Redis, which the deployment's keys sign. Must not know
users' tokens, settings or Flask. Modules that services without the database use import no
SQLAlchemy.
"""
