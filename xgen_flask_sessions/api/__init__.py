"""The JSON API and its OpenAPI document.

Knows paths, parameters and representations. Holds no rule: ``users.authority`` decides.
"""
