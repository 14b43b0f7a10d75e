"""The numbers of the program and the format in the header of an SQLite file."""

from __future__ import annotations

from contextlib import closing
from typing import cast

import apsw

WRONG_BIT = "a number in the header of the file is wrong"
"""The damage, for people."""

# Not the statements: those of a file that was converted from an older version differ.
_COLUMNS = """
SELECT schema.name, info.name FROM sqlite_schema AS schema, pragma_table_info(schema.name) AS info
WHERE schema.type = 'table' ORDER BY 1, 2
"""


def wrong_bits(connection: apsw.Connection, *, application_id: int, version: int) -> int:
    """Return in how many bits `application_id` and `user_version` of this file differ from these. Raises apsw.Error."""
    found = cast("int", connection.pragma("application_id")), cast("int", connection.pragma("user_version"))
    return (found[0] ^ application_id).bit_count() + (found[1] ^ version).bit_count()


def has_wrong_bit(connection: apsw.Connection, *, application_id: int, version: int, schema: str) -> bool:
    """Return whether `application_id` or `user_version` has one wrong bit, in a file with the tables of `schema`.

    Such a file is damaged. One with other tables, or with numbers that differ in more bits, is that of another version
    or of another program. Raises apsw.Error.
    """
    if wrong_bits(connection, application_id=application_id, version=version) != 1:
        return False
    with closing(apsw.Connection(":memory:")) as new:
        new.execute(schema)
        return list(connection.execute(_COLUMNS)) == list(new.execute(_COLUMNS))
