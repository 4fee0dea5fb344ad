from __future__ import annotations

import random

from deploy.lab.blocks import BLOCK, Blocks


def test_what_was_never_written_is_zeros() -> None:
    assert Blocks().read("a", 5, 10) == bytes(10)


def test_a_write_across_blocks_is_read_back_at_any_offset() -> None:
    blocks = Blocks()
    data = random.Random(1).randbytes(3 * BLOCK)
    blocks.write("a", BLOCK - 7, data)
    assert blocks.read("a", BLOCK - 7, len(data)) == data
    assert blocks.read("a", 2 * BLOCK, 100) == data[BLOCK + 7 : BLOCK + 107]


def test_zeros_take_no_space() -> None:
    blocks = Blocks()
    assert blocks.write("a", 0, bytes(8 * BLOCK)) == 0
    assert blocks.used_blocks("a") == []


def test_overwriting_with_zeros_gives_the_space_back() -> None:
    blocks = Blocks()
    blocks.write("a", 0, b"x" * BLOCK)
    assert blocks.write("a", 0, bytes(BLOCK)) == -BLOCK
    assert blocks.read("a", 0, BLOCK) == bytes(BLOCK)


def test_a_branch_sees_what_its_source_had_and_neither_sees_the_others_writes() -> None:
    blocks = Blocks()
    blocks.write("a", 0, b"old")
    blocks.branch("a", "b", "base")
    blocks.write("a", 0, b"AAA")
    blocks.write("b", 1, b"B")
    assert blocks.read("a", 0, 3) == b"AAA"
    assert blocks.read("b", 0, 3) == b"oBd"


def test_a_hole_written_over_a_base_hides_its_data() -> None:
    blocks = Blocks()
    blocks.write("a", 0, b"x" * BLOCK)
    blocks.branch("a", "b", "base")
    blocks.write("b", 0, bytes(BLOCK))
    assert blocks.read("b", 0, 4) == bytes(4)
    assert blocks.used_blocks("b") == []
    assert blocks.read("a", 0, 4) == b"xxxx"


def test_branches_of_an_unchanged_volume_share_one_base() -> None:
    blocks = Blocks()
    blocks.write("golden", 0, b"x")
    for number in range(50):
        blocks.branch("golden", f"clone{number}", f"base{number}")
    assert {blocks.get(f"clone{number}").depth for number in range(50)} == {2}


def test_branches_of_a_changing_volume_lengthen_its_chain() -> None:
    blocks = Blocks()
    for number in range(5):
        blocks.write("a", number, b"x")
        blocks.branch("a", f"snap{number}", f"base{number}")
    assert blocks.get("a").depth == 6


def test_a_base_goes_with_its_last_child_and_is_merged_into_its_only_one() -> None:
    blocks = Blocks()
    blocks.write("a", 0, b"x")
    base = blocks.branch("a", "b", "base")
    assert base is not None
    blocks.remove("b")
    assert [gone.heir for gone in blocks.collect(base)] == ["a"]
    assert blocks.get("a").depth == 1
    assert blocks.read("a", 0, 1) == b"x"


def test_a_copy_is_independent_of_its_source() -> None:
    blocks = Blocks()
    blocks.write("a", 0, b"x")
    blocks.copy("a", "b")
    blocks.remove("a")
    assert blocks.read("b", 0, 1) == b"x"


def test_saved_changes_bring_everything_back() -> None:
    blocks = Blocks(kept=True)
    blocks.write("a", 0, b"base")
    blocks.branch("a", "b", "base")
    blocks.write("a", 0, b"A")
    stored: dict[tuple[str, int], bytes] = {}

    def save() -> None:
        changed, gone = blocks.take_changes()
        for key in [key for key in stored if key[0] in gone]:
            del stored[key]
        for name, numbers in changed.items():
            for number, data in numbers.items():
                stored[name, number] = data

    save()
    blocks.write("b", BLOCK, b"more")
    blocks.write("a", 0, bytes(BLOCK))
    save()
    again = Blocks()
    again.restore(blocks.describe(), [(name, n, data) for (name, n), data in stored.items()])
    for name in ("a", "b"):
        assert again.read(name, 0, 2 * BLOCK) == blocks.read(name, 0, 2 * BLOCK)
        assert again.get(name).depth == blocks.get(name).depth


def test_a_fuzzed_tree_reads_like_plain_copies() -> None:
    chance, blocks = random.Random(7), Blocks()
    plain = {"v0": bytearray(8 * BLOCK)}
    for step in range(300):
        name = chance.choice(sorted(plain))
        action = chance.random()
        if action < 0.6:
            offset = chance.randrange(7 * BLOCK)
            data = chance.choice([bytes(BLOCK), chance.randbytes(BLOCK // 2), b"z"])
            blocks.write(name, offset, data)
            plain[name][offset : offset + len(data)] = data
        elif action < 0.8 and len(plain) < 12:
            blocks.branch(name, f"v{step}", f"base{step}")
            plain[f"v{step}"] = bytearray(plain[name])
        elif action < 0.9 and len(plain) > 1:
            parent = blocks.get(name).parent
            blocks.remove(name)
            del plain[name]
            if parent is not None:
                blocks.collect(parent)
        for kept, expected in plain.items():
            if kept == name or step % 50 == 0:
                assert blocks.read(kept, 0, 8 * BLOCK) == bytes(expected)
