//! Is this the first start of a session or a takeover, and may this client serve it?

use std::os::fd::RawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nix::errno::Errno;

use super::init::WANTED_INIT;
use super::state::Layout;
use super::state::layout::{CLOSED, MAGIC, STATE_LEN, VERSION};
use super::{fds, state, sys};

/// What was negotiated for the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub(crate) max_write: u32,
    pub(crate) init_flags: u64,
}

/// Why a session is not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("mapping the session state at descriptor {fd} failed; it must be a memfd of {STATE_LEN} bytes")]
    State { fd: RawFd, source: Errno },
    #[error(
        "the served directory at descriptor {fd} cannot be looked at; it must be an open_tree descriptor"
    )]
    Root { fd: RawFd, source: Errno },
    #[error("descriptor {fd} is not a directory")]
    NotADirectory { fd: RawFd },
    #[error(
        "the session state is of layout {found}, this client knows layout {VERSION}; start the version of mount-hostdir that has served this session"
    )]
    Version { found: u32 },
    #[error("the session state is not one of mount-hostdir (it starts with {found:#018x})")]
    Foreign { found: u64 },
    #[error("the session was negotiated as {was:?} and is offered as {offered:?}; offer what was negotiated")]
    Negotiation { was: Negotiated, offered: Negotiated },
    #[error("init flags {unknown:#x} are not understood by this client; negotiate what WANTED_INIT asks for")]
    Flags { unknown: u64 },
    #[error("the directory is not the one that this session has served; give a clone of the same directory")]
    OtherDirectory,
}

/// Whether an earlier client has served this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    First,
    Takeover,
}

/// Maps the state, checks it, and makes it this keeper's: a new keeper has none of the descriptors that an earlier one
/// had, so all files are marked to be opened again.
pub(crate) fn open(negotiated: Negotiated, keeper: u64) -> Result<(&'static Layout, Start), Refusal> {
    let unknown = negotiated.init_flags & !WANTED_INIT.flags;
    if unknown != 0 {
        return Err(Refusal::Flags { unknown });
    }
    let layout = state::map(fds::STATE).map_err(|source| Refusal::State { fd: fds::STATE, source })?;
    let start = adopt(layout, negotiated)?;
    layout.header.keeper.store(keeper, Release);
    Ok((layout, start))
}

fn adopt(layout: &'static Layout, negotiated: Negotiated) -> Result<Start, Refusal> {
    let root = sys::attr(fds::ROOT).map_err(|source| Refusal::Root { fd: fds::ROOT, source })?;
    if root.kind() != super::attr::Kind::Directory {
        return Err(Refusal::NotADirectory { fd: fds::ROOT });
    }
    let header = &layout.header;
    match header.magic.load(Acquire) {
        0 => {
            header.version.store(VERSION, Relaxed);
            header.max_write.store(negotiated.max_write, Relaxed);
            header.init_flags.store(negotiated.init_flags, Relaxed);
            header.node_end.store(2, Relaxed);
            header.handle_end.store(1, Relaxed);
            layout.nodes[1].make_root(&root);
            header.magic.store(MAGIC, Release);
            Ok(Start::First)
        }
        MAGIC => {
            check_takeover(layout, negotiated, &root)?;
            close_all(layout);
            Ok(Start::Takeover)
        }
        found => Err(Refusal::Foreign { found }),
    }
}

fn check_takeover(layout: &Layout, offered: Negotiated, root: &super::attr::Attr) -> Result<(), Refusal> {
    let header = &layout.header;
    let found = header.version.load(Acquire);
    if found != VERSION {
        return Err(Refusal::Version { found });
    }
    let was =
        Negotiated { max_write: header.max_write.load(Relaxed), init_flags: header.init_flags.load(Relaxed) };
    if was != offered {
        return Err(Refusal::Negotiation { was, offered });
    }
    if layout.nodes[1].is_root(root) { Ok(()) } else { Err(Refusal::OtherDirectory) }
}

fn close_all(layout: &Layout) {
    let (nodes, handles) = used(layout);
    nodes.iter().skip(2).for_each(|node| node.fd.store(CLOSED, Release));
    handles.iter().for_each(|handle| handle.fd.store(CLOSED, Release));
}

fn used(layout: &Layout) -> (&[state::layout::NodeRecord], &[state::layout::HandleRecord]) {
    let end = |end: u32, slots: usize| (end as usize).min(slots);
    let nodes = end(layout.header.node_end.load(Acquire), layout.nodes.len());
    let handles = end(layout.header.handle_end.load(Acquire), layout.handles.len());
    (&layout.nodes[..nodes], &layout.handles[..handles])
}

/// The descriptors that the tables speak of.
pub(crate) fn known_descriptors(layout: &Layout) -> Vec<RawFd> {
    let (nodes, handles) = used(layout);
    let nodes =
        nodes.iter().skip(2).filter(|node| node.id.load(Acquire) != 0).map(|node| node.fd.load(Acquire));
    let handles =
        handles.iter().filter(|handle| handle.id.load(Acquire) != 0).map(|handle| handle.fd.load(Acquire));
    nodes.chain(handles).filter(|fd| *fd != CLOSED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostdir::state::layout::testing::fresh_layout;

    const NEGOTIATED: Negotiated = Negotiated { max_write: 4096, init_flags: 0 };

    #[test]
    fn another_layout_or_negotiation_or_directory_is_refused() {
        let layout = fresh_layout();
        let (Ok(root), Ok(other)) = (sys::attr_at(-100, c"/"), sys::attr_at(-100, c"/proc")) else {
            unreachable!("/ and /proc exist")
        };
        layout.nodes[1].make_root(&root);
        layout.header.max_write.store(4096, Relaxed);
        layout.header.version.store(VERSION + 1, Relaxed);
        assert!(
            matches!(check_takeover(layout, NEGOTIATED, &root), Err(Refusal::Version { found }) if found == VERSION + 1)
        );
        layout.header.version.store(VERSION, Relaxed);
        let offered = Negotiated { max_write: 8192, ..NEGOTIATED };
        assert!(matches!(check_takeover(layout, offered, &root), Err(Refusal::Negotiation { .. })));
        assert!(matches!(check_takeover(layout, NEGOTIATED, &other), Err(Refusal::OtherDirectory)));
        assert!(check_takeover(layout, NEGOTIATED, &root).is_ok());
    }

    #[test]
    fn a_new_keeper_has_none_of_the_old_descriptors() {
        let layout = fresh_layout();
        layout.header.node_end.store(4, Relaxed);
        layout.nodes[2].id.store(2, Relaxed);
        layout.nodes[2].fd.store(77, Relaxed);
        layout.nodes[3].fd.store(78, Relaxed); // free: its descriptor is a leftover
        assert_eq!(known_descriptors(layout), [77]);
        close_all(layout);
        assert!(known_descriptors(layout).is_empty());
    }
}
