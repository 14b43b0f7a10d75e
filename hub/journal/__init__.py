"""The journal: durable, ordered log of accepted batches, over SQLite (apsw).

    block           entries and marks to and from the bytes of a block (pure)
    state           what the file contains, and the statements of the next commit (pure)
    quarantine      the bounds of the quarantine (pure)
    recent_entries  the newest entries in memory (pure)
    continuity      a lost end, and the journal of another hub (pure)
    rows            rows of the small tables with their checksums
    stored_blocks   rows of the blocks, also around damaged pages
    schema          tables, opening, contents of the file
    salvage         opening of a damaged file
    lock            one process at a time, and the newest offset beside the file
    writer          the thread that commits and checkpoints
    reader          the thread that reads the file
    commit_queue    what waits for the next commit
    journal         Journal: the commit, reads and cursors
    losses          ranges of offsets that are lost, and incidents
    series_ids      the highest series id that is assigned
    ownership       the hub that the file belongs to
    refusals        puts what a sink refuses into quarantine, once
    consumer        the one loop that feeds a sink from the journal
    verify          verification of the file for `hub verify`

A commit is one row: all its entries as one block. Nothing is acknowledged before the fsync that covers it.
"""
