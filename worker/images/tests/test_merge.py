"""Layers put upon each other: OCI image specification, "Image Layer Filesystem Changeset"."""

import itertools
import os
import stat
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.images.errors import ImageError, LayerMalformed, TooLarge
from worker.images.inodes import archive_of
from worker.images.records import Limits
from worker.images.tests.crafting import (
    folder,
    hard,
    link,
    member,
    opaque,
    paths,
    spooled,
    tar,
    tree_of,
    walk,
    whiteout,
)
from worker.images.tree import Tree


def at(tree: Tree, path: str) -> int:
    return walk(tree)[path]


def mode(tree: Tree, path: str) -> int:
    return stat.S_IMODE(tree.inodes.mode[at(tree, path)])


def text(tree: Tree, path: str) -> bytes:
    inode = at(tree, path)
    archive, offset = archive_of(tree.inodes.where[inode])
    return os.pread(tree.archives[archive].fileno(), tree.inodes.size[inode], offset)


LOWER = tar(folder("a"), member("a/one", data=b"1"), folder("a/b"), member("a/b/two"), member("c"))


def test_upper_layers_hide_files_of_the_same_name() -> None:
    tree = tree_of(tar(member("f", data=b"old")), tar(member("f", data=b"new")))
    assert text(tree, "f") == b"new"


def test_a_whiteout_hides_a_file_of_a_lower_layer() -> None:
    assert paths(LOWER, tar(whiteout("a/one"))) == ["a", "a/b", "a/b/two", "c"]


def test_a_whiteout_hides_a_folder_with_all_in_it() -> None:
    assert paths(LOWER, tar(whiteout("a"))) == ["c"]


def test_a_whiteout_of_nothing_changes_nothing() -> None:
    assert paths(LOWER, tar(whiteout("a/none"), whiteout("x/y"), whiteout("c/z"))) == paths(LOWER)


def test_an_opaque_folder_hides_its_lower_files_and_stays() -> None:
    assert paths(LOWER, tar(opaque("a"))) == ["a", "c"]


def test_an_opaque_root_hides_all() -> None:
    assert paths(LOWER, tar(member(".wh..wh..opq"))) == []


@pytest.mark.parametrize(
    "members",
    list(itertools.permutations([whiteout("a"), folder("a", mode=0o700), member("a/new")])),
)
def test_a_whiteout_spares_its_own_layer_whichever_comes_first(
    members: tuple[tuple[tarfile.TarInfo, bytes], ...],
) -> None:
    tree = tree_of(LOWER, tar(*members))
    assert list(walk(tree)) == ["", "a", "a/new", "c"]
    assert mode(tree, "a") == 0o700


@pytest.mark.parametrize("members", list(itertools.permutations([opaque("a"), member("a/b/new")])))
def test_an_opaque_folder_keeps_what_its_own_layer_puts_there(
    members: tuple[tuple[tarfile.TarInfo, bytes], ...],
) -> None:
    assert paths(LOWER, tar(*members)) == ["a", "a/b", "a/b/new", "c"]


@pytest.mark.parametrize("members", list(itertools.permutations([whiteout("a"), member("a/new")])))
def test_a_folder_remade_without_a_word_is_like_any_new_one(
    members: tuple[tuple[tarfile.TarInfo, bytes], ...],
) -> None:
    lower = tar(folder("a", mode=0o700, uid=7))
    tree = tree_of(lower, tar(*members))
    assert (mode(tree, "a"), tree.inodes.uid[at(tree, "a")]) == (0o755, 0)


def test_a_later_layer_may_bring_back_what_one_hid() -> None:
    tree = tree_of(LOWER, tar(whiteout("c")), tar(member("c", data=b"again")))
    assert text(tree, "c") == b"again"


def test_a_folder_over_a_folder_changes_its_mode_and_keeps_its_files() -> None:
    tree = tree_of(LOWER, tar(folder("a/b", mode=0o711)))
    assert mode(tree, "a/b") == 0o711
    assert "a/b/two" in walk(tree)


def test_a_file_over_a_folder_and_a_folder_over_a_file_replace_it() -> None:
    assert paths(LOWER, tar(member("a"), folder("c"))) == ["a", "c"]


def test_a_folder_over_a_link_to_a_folder_replaces_the_link() -> None:
    tree = tree_of(tar(folder("a"), member("a/f"), link("l", "a")), tar(folder("l")))
    assert tree.inodes.folder(at(tree, "l")) == {}


def test_folders_above_a_file_are_made_where_they_are_missing() -> None:
    tree = tree_of(tar(member("x/y/z")))
    assert list(walk(tree)) == ["", "x", "x/y", "x/y/z"]
    assert mode(tree, "x") == 0o755


def test_the_root_takes_its_mode_from_the_layers() -> None:
    assert mode(tree_of(tar(folder("./", mode=0o700))), "") == 0o700


def test_names_come_in_the_order_of_their_bytes_folder_by_folder() -> None:
    layer = tar(*[member(name) for name in ["b", "a-b", "a/x", "é", "Z", "\udcff"]])
    assert paths(layer) == ["Z", "a", "a/x", "a-b", "b", "é", "\udcff"]


# ---------------------------------------------------------------------------------------------------- links


def test_a_file_put_behind_a_link_lands_where_the_link_leads() -> None:
    lower = tar(folder("usr"), folder("usr/lib"), link("lib", "usr/lib"))
    assert "usr/lib/new" in paths(lower, tar(member("lib/new")))


@pytest.mark.parametrize("target", ["/etc", "../../../etc", "etc", "./x/../etc", "/../etc/."])
def test_links_lead_round_inside_the_image_and_never_out(target: str) -> None:
    assert paths(tar(folder("x"), link("l", target), member("l/passwd"))) == [
        "etc",
        "etc/passwd",
        "l",
        "x",
    ]


@pytest.mark.parametrize("name", ["../../f", "/f", "//f", "./f", "a/../../f", "f/."])
def test_paths_lead_nowhere_above_the_root(name: str) -> None:
    assert paths(tar(member(name))) == ["f"]


def test_a_whiteout_behind_a_link_hides_what_the_link_leads_to() -> None:
    lower = tar(folder("d"), member("d/f"), link("l", "d"))
    assert paths(lower, tar(whiteout("l/f"))) == ["d", "l"]


def test_links_in_a_ring_are_refused() -> None:
    with pytest.raises(LayerMalformed):
        paths(tar(link("a", "b"), link("b", "a"), member("a/f")))


def test_a_file_below_a_file_is_refused() -> None:
    with pytest.raises(LayerMalformed):
        paths(tar(member("a"), member("a/b")))


def test_a_hard_link_is_another_name_of_the_same_file() -> None:
    tree = tree_of(tar(member("a", data=b"x"), hard("b", "a")))
    assert at(tree, "a") == at(tree, "b")


def test_a_hard_link_reaches_into_lower_layers_and_outlives_its_target() -> None:
    tree = tree_of(tar(member("a", data=b"x")), tar(hard("b", "/a")), tar(whiteout("a")))
    assert text(tree, "b") == b"x"


def test_replacing_one_name_leaves_the_other_as_it_was() -> None:
    lower = tar(member("a", data=b"old"), hard("b", "a"))
    tree = tree_of(lower, tar(member("a", data=b"new")))
    assert (text(tree, "a"), text(tree, "b")) == (b"new", b"old")


def test_a_hard_link_to_a_symbolic_link_is_that_link() -> None:
    tree = tree_of(tar(link("l", "/nowhere"), hard("h", "l")))
    assert tree.inodes.target(at(tree, "h")) == b"/nowhere"


def test_a_hard_link_to_itself_is_nothing_new() -> None:
    assert paths(tar(member("a"), hard("a", "a"))) == ["a"]


@pytest.mark.parametrize(
    "target", ["none", "d", "../../../../etc/shadow", "f/x", "", "l/none", "/proc/self/exe"]
)
def test_a_hard_link_to_what_is_no_file_of_the_image_is_refused(target: str) -> None:
    with pytest.raises(LayerMalformed):
        paths(tar(folder("d"), member("f"), link("l", "d"), hard("h", target)))


# --------------------------------------------------------------------------------------- what is no file


@pytest.mark.parametrize(
    "bad",
    [
        member(".wh."),
        member("a/.wh.."),
        member("a/.wh..."),
        member("a/.wh.b/c"),
        member("/"),
        member("a" * 256),
        member("a", pax_headers={"path": "a\0b"}),
        link("l", ""),
        link("l", "x/" * 2048),
        member("f", uid=-1),
        member("f", gid=2**40),
        member("f", b"V"),
        member("f", b"S", pax_headers={"GNU.sparse.map": "0,9", "GNU.sparse.size": "1"}),
    ],
)
def test_what_no_file_system_could_hold_is_refused(bad: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(ImageError) as caught:
        paths(tar(bad))
    assert caught.value.code in ("layer_malformed", "too_large")


def test_bookkeeping_of_aufs_is_passed_over() -> None:
    assert paths(tar(member(".wh..wh.plnk"), member(".wh..wh.aufs"), member("f"))) == ["f"]


def test_attributes_of_the_building_machine_are_dropped() -> None:
    given_ = {
        "SCHILY.xattr.user.note": "kept",
        "SCHILY.xattr.security.capability": "\x01\0\0\x02" + "\0" * 16,
        "SCHILY.xattr.system.posix_acl_access": "\2\0\0\0",
        "SCHILY.xattr.security.selinux": "label",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
    }
    tree = tree_of(tar(member("f", pax_headers=given_)))
    kept = tree.inodes.attributes[tree.inodes.xattrs[at(tree, "f")]]
    assert [name for name, _ in kept] == [
        b"security.capability",
        b"system.posix_acl_access",
        b"user.note",
    ]


def test_setuid_devices_and_pipes_are_kept_as_docker_run_gives_them() -> None:
    tree = tree_of(
        tar(
            member("su", mode=0o104755),
            member("null", tarfile.CHRTYPE, devmajor=1, devminor=3),
            member("pipe", tarfile.FIFOTYPE),
        )
    )
    assert mode(tree, "su") == 0o4755
    assert tree.inodes.where[at(tree, "null")] == 0x103
    assert tree.inodes.is_kind(at(tree, "pipe"), stat.S_IFIFO)


def test_folders_in_folders_have_an_end_also_by_way_of_links() -> None:
    limits = Limits(depth=20)
    deep = "/".join("d" * 15)
    tree_of(tar(member(f"{deep}/f")), limits=limits)
    with pytest.raises(TooLarge):
        tree_of(tar(member(f"{deep}/f"), link("l", deep), member(f"l/{deep}/f")), limits=limits)


def test_folders_that_nobody_wrote_down_count_too() -> None:
    with pytest.raises(TooLarge):
        tree_of(tar(member("/".join("abcdefghij"))), limits=Limits(entries=9))


# ------------------------------------------------------------------------------------ against a plain model

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MEMBERS = st.one_of(
    PATHS.map(folder),
    st.builds(member, PATHS),
    st.builds(link, PATHS, st.sampled_from(["/", "a", "/b/c", "../b", "c/.."])),
    st.builds(hard, PATHS, PATHS),
    PATHS.map(whiteout),
    PATHS.map(opaque),
)


@given(st.lists(st.lists(MEMBERS, max_size=6), max_size=4))
def test_any_layers_make_a_tree_or_are_refused(
    layers: list[list[tuple[tarfile.TarInfo, bytes]]],
) -> None:
    try:
        tree = tree_of(*[tar(*members) for members in layers])
    except LayerMalformed:
        return
    names = list(walk(tree))
    assert len(names) == len(set(names))
    assert not [one for one in names if ".wh." in one or ".." in one.split("/")]
    assert all(one.rpartition("/")[0] in names for one in names)


@given(st.lists(MEMBERS, max_size=8))
def test_a_whiteout_of_everything_hides_everything(
    members: list[tuple[tarfile.TarInfo, bytes]],
) -> None:
    try:
        tree = tree_of(tar(*members))
    except LayerMalformed:
        return
    tree.apply(spooled(tar(member(".wh..wh..opq"))))
    assert list(walk(tree)) == [""]
