//! How does a tree get into the trash, and is it gone from there?
//!
//! All that is to be removed of one volume or snapshot is gathered in one directory of the trash, which the client then
//! removes with all that is in it.

use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::renameat;

use super::super::super::StoreError;
use super::super::super::files::place;
use super::layout::{Tree, open_or_make};

/// Moves what is named so into this container of the trash; there may be nothing. Its inode number is its name in the
/// trash, so that nothing is in its way.
pub(super) fn throw_away(
    tree: &Tree,
    container: &str,
    from: BorrowedFd<'_>,
    name: &str,
) -> Result<(), StoreError> {
    let failed = |errno| StoreError::new(format!("moving {name} into the trash"), errno);
    let Some(inode) = place::inode(from, name).map_err(failed)? else { return Ok(()) };
    let directory = open_or_make(tree.trash.as_fd(), container)?;
    renameat(from, name, &directory, inode.to_string().as_str()).map_err(failed)
}

/// Is there such a container?
pub(super) fn holds(tree: &Tree, container: &str) -> Result<bool, StoreError> {
    place::exists(tree.trash.as_fd(), container)
        .map_err(|errno| StoreError::new("looking at the trash", errno))
}

/// The client says nothing of some failures to remove: it is looked for itself.
pub(super) fn refuse_left(tree: &Tree, container: &str) -> Result<(), StoreError> {
    if holds(tree, container)? {
        let why = std::io::Error::other("the client left it there");
        return Err(StoreError::new(format!("removing {container} from the trash"), why));
    }
    Ok(())
}
