"""The screen Login Management: a view of Flask-Admin, its templates and static files.

Knows pages and forms. Holds no rule: ``users.authority`` decides, ``roster`` answers.
"""
