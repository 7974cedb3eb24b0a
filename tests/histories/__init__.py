"""Recorded histories of many processes on one database, and the checker that judges them.

``record``
    What is written down of every operation.
``exchange``
    Tokens, handed from process to process.
``observer``
    Makes calls through the public interface, and records them.
``workload``
    A worker process: a host application with a wrong clock, and what it does all the time.
``disturbances``
    What goes wrong on the way: the feed is cut, connections end, the server is restarted.
``wrong_systems``
    Faulty revocations, to prove the checker with.
``checker``, ``timeline``, ``findings``
    Finds faults from the records alone. No Flask, no database.
``run``
    Starts the workers on a database, and hands their records to the checker.
"""
