"""The journal's room: the embedded implementation of hub.model.journal, over SQLite through apsw.

What stands where, from the pure middle outwards:

    block           entries and marks to and from the bytes of a block
    tail            the newest entries in memory, for readers that keep up
    cursors         the consumers' cursors
    fold            moving devices' marks from the blocks into their table
    retention       which of the oldest blocks may go
    quarantine      how much of the quarantine is kept
    schema          the file: its tables, its opening, what it held
    ledger          what the file holds, and the statements that change it
    writer          the thread with the one connection that writes and checkpoints
    reader          the thread with the read-only connection, for those that fell behind
    committer       group commit, on the event loop
    sqlite_journal  SqliteJournal: the contract, made of these

A commit is one row: all its entries as one block of bytes. Nothing is acknowledged before the fsync that covers it, and
an I/O error is final: after it, nobody knows what the disk holds.
"""
