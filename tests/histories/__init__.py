"""Recorder of concurrent histories on one database, and an offline checker of them.

``record``
    The record of one operation, and the files of records.
``exchange``
    Tokens that the processes share through a file.
``observer``
    Makes calls through the public interface and records them.
``workload``
    A worker process: a host application with a wrong clock, and its operations.
``disturbances``
    Fault injection: the feed is cut, connections are ended, the server is restarted.
``wrong_systems``
    Faulty implementations that the checker must detect.
``checker``, ``timeline``, ``findings``
    Checks a history from the records alone. No Flask, no database.
``run``
    Starts the workers on a database, injects the disturbances and checks the history.
"""
