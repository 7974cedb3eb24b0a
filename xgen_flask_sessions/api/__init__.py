"""The JSON API and its OpenAPI document.

Knows paths, parameters and representations. Holds no rule of rank: ``users.authority`` decides.
"""
