"""Marks on their way from the blocks into their table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.journal.state import CHECKPOINT_BLOCKS, CHECKPOINT_BYTES, PIECE_MARKS, MarkCheckpoint
from hub.model.batch import Mark
from tests.hub.journal.entries import make_mark

steps = st.lists(
    st.tuples(
        st.sampled_from(["block", "block", "direct", "nothing"]),
        st.lists(st.sampled_from("abcdefgh"), max_size=8, unique=True),
        st.booleans(),  # whether folding is wanted
        st.booleans(),  # whether the commit fails
    ),
    max_size=40,
)


class File:
    """The table and the blocks, as the journal's file has them."""

    def __init__(self) -> None:
        self.table: dict[str, tuple[Mark, int]] = {}
        self.blocks: list[tuple[int, list[Mark]]] = []
        self.offset = 0

    def marks(self) -> dict[str, Mark]:
        """What opening finds."""
        found = {device: mark for device, (mark, _) in self.table.items()}
        for offset, marks in self.blocks:
            for mark in marks:
                if offset > self.offset and offset > self.table.get(mark.device, (mark, 0))[1]:
                    found[mark.device] = mark
        return found


@given(steps, st.integers(1, 4))
def test_at_any_moment_the_file_has_every_newest_mark(
    steps: list[tuple[str, list[str], bool, bool]], piece_marks: int
) -> None:
    """However commits, failures, pieces and marks without entries follow on each other, opening finds the newest."""
    file, truth, checkpoint = File(), dict[str, Mark](), MarkCheckpoint(0, [], piece_marks=piece_marks)
    last_offset = 0
    for number, (kind, devices, wanted, fails) in enumerate(steps, 1):
        marks = [make_mark(number, device=device) for device in devices]
        piece = checkpoint.next_piece(last_offset, wanted=wanted)
        if fails:
            if piece is not None:
                checkpoint.put_back(piece)
            continue
        if piece is not None:
            file.table.update((mark.device, (mark, piece.offset)) for mark in piece.marks)
            if piece.last:
                file.offset = piece.offset
            checkpoint.done(piece)
        if kind == "block":
            last_offset += 1
            file.blocks.append((last_offset, marks))
            checkpoint.add(marks, blocks=1, size_bytes=10)
        elif kind == "direct":
            file.table.update((mark.device, (mark, last_offset)) for mark in marks)
            checkpoint.written(marks)
        if kind != "nothing":
            truth.update((mark.device, mark) for mark in marks)
        assert file.marks() == truth
        assert checkpoint.offset == file.offset
        # Trimming deletes what is folded: nothing may be lost by it.
        file.blocks = [block for block in file.blocks if block[0] > file.offset]
        assert file.marks() == truth


def test_a_round_begins_when_it_is_due() -> None:
    """Enough bytes, or enough blocks, since the last round; not before."""
    for blocks, size_bytes in ((1, CHECKPOINT_BYTES), (CHECKPOINT_BLOCKS, 1)):
        checkpoint = MarkCheckpoint(0, [])
        checkpoint.add([make_mark(1)], blocks=blocks - 1, size_bytes=size_bytes - 1)
        assert checkpoint.next_piece(1, wanted=False) is None
        checkpoint.add([make_mark(2)], blocks=1, size_bytes=1)
        piece = checkpoint.next_piece(2, wanted=False)
        assert piece is not None
        assert piece == ([make_mark(2)], 2, True)
        checkpoint.done(piece)
        assert checkpoint.next_piece(2, wanted=True) is None


def test_a_piece_is_bounded() -> None:
    """A round of many devices is written in pieces, and is done with the last."""
    marks = [make_mark(1, device=str(number)) for number in range(2 * PIECE_MARKS + 1)]
    checkpoint = MarkCheckpoint(0, marks)
    pieces = []
    while (piece := checkpoint.next_piece(9, wanted=True)) is not None:
        assert checkpoint.offset == 0
        pieces.append(piece)
        checkpoint.done(piece)
    assert [(len(piece.marks), piece.last) for piece in pieces] == [
        (PIECE_MARKS, False),
        (PIECE_MARKS, False),
        (1, True),
    ]
    assert checkpoint.offset == 9
    assert [mark for piece in pieces for mark in piece.marks] == marks
