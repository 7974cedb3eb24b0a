"""Whether a token is revoked: asked of the database, or of a memory that follows the feed.

Knows the records of tokens and the invalidation timestamps. Must not know requests or Flask.
"""
