"""The journal: durable, ordered log of accepted batches, over SQLite (apsw).

    block           entries and marks to and from the bytes of a block (pure)
    state           what the file contains, and the statements of the next commit (pure)
    quarantine      the bounds of the quarantine (pure)
    recent_entries  the newest entries in memory (pure)
    schema          tables, opening, contents of the file
    writer          the thread that commits and checkpoints
    reader          the thread that reads the file
    commit_queue    what waits for the next commit
    journal         Journal: the commit, reads and cursors
    refusals        puts what a sink refuses into quarantine, once
    consumer        the one loop that feeds a sink from the journal

A commit is one row: all its entries as one block. Nothing is acknowledged before the fsync that covers it.
"""
