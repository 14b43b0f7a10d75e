"""The journal's room: the embedded implementation of hub.contract.journal, over SQLite through apsw.

What stands where, from the pure middle outwards:

    block       entries and marks to and from the bytes of a block
    tail        the newest entries in memory, for readers that keep up
    cursors     the consumers' cursors
    fold        moving devices' marks from the blocks into their table
    retention   which of the oldest blocks may go
    quarantine  how much of the quarantine is kept
    schema      the file: its tables, its opening, what it held
    writer      the thread with the one connection that writes and checkpoints
    reader      the thread with the read-only connection, for those that fell behind
    sqlite      SqliteJournal, which ties these together on the event loop

A commit is one row: all its entries as one block of bytes. Nothing outside this room and the registry uses apsw.
"""
