"""JSON Web Tokens: keys, claims, signing and checking (RFC 7519, RFC 7515, RFC 8725).

Knows keys, claims and the rules for ids. Must not know Flask, a database, or which tokens are
revoked.
"""
