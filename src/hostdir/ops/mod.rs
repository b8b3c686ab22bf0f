//! How is each operation carried out on the served directory?
//!
//! Rules of all operations: a name is one path component and never followed; an open goes through the `O_PATH`
//! descriptor of a node already found; a change is recorded in the journal before it is made.

mod attributes;
mod create;
mod directory;
mod file;
mod lookup;
mod names;
mod owner;
mod xattr;

use nix::errno::Errno;
use nix::libc;

use super::protocol::opcode;
use super::protocol::reply::Body;
use super::protocol::request::{Header, Operation};
use super::state::handles::Handles;
use super::state::journal::{Before, Entry, Progress, Recorded};
use super::state::nodes::{Nodes, ROOT_ID};
use super::sys;

/// Whether anything may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    ReadWrite,
    ReadOnly,
}

/// The served directory with all that is known about it.
pub(crate) struct FileSystem {
    pub(crate) nodes: Nodes,
    pub(crate) handles: Handles,
    pub(crate) access: Access,
}

/// One request being carried out.
pub(crate) struct Call<'a> {
    pub(crate) header: Header,
    pub(crate) entry: Entry,
    /// How far an earlier server came.
    pub(crate) progress: Progress,
    pub(crate) body: Body<'a>,
}

/// Whether an earlier server may have made this change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    First,
    Again,
}

impl Call<'_> {
    /// Records what the names mean, right before changing something; a repeated request gets what was recorded then.
    fn start(&self, look: impl FnOnce() -> Result<Before, Errno>) -> Result<(Before, Attempt), Errno> {
        if let Progress::Started(before) = self.progress {
            return Ok((before, Attempt::Again));
        }
        let before = look()?;
        self.entry.start(before);
        Ok((before, Attempt::First))
    }
}

/// Carries out one operation; the answer's body is in `call.body`.
pub(crate) fn execute(fs: &FileSystem, call: &mut Call<'_>, operation: &Operation<'_>) -> Result<(), Errno> {
    if fs.access == Access::ReadOnly && changes(operation) {
        return Err(Errno::EROFS);
    }
    match *operation {
        Operation::Lookup { name } => lookup::lookup(fs, call, name),
        Operation::GetAttr { handle } => attributes::get(fs, call, handle),
        Operation::SetAttr(asked) => attributes::set(fs, call, &asked),
        Operation::ReadLink => lookup::read_link(fs, call),
        Operation::StatFs => attributes::statfs(fs, call),
        Operation::Symlink { name, target } => create::make(fs, call, name, create::New::Symlink { target }),
        Operation::MkNod { name, mode } => create::make_node(fs, call, name, mode),
        Operation::MkDir { name, mode } => create::make(fs, call, name, create::New::Directory { mode }),
        Operation::Create { name, flags, mode } => create::create(fs, call, name, flags, mode),
        Operation::Link { source, name } => names::link(fs, call, source, name),
        Operation::Unlink { name } => names::remove(fs, call, name, sys::unlink),
        Operation::RmDir { name } => names::remove(fs, call, name, sys::remove_directory),
        Operation::Rename { name, new_parent, new_name, flags } => {
            names::rename(fs, call, name, names::Target { parent: new_parent, name: new_name, flags })
        }
        Operation::Open { flags } => file::open(fs, call, flags),
        Operation::Read { handle, offset, size } => file::read(fs, call, handle, offset, size),
        Operation::Write { handle, offset, data, privileges } => {
            file::write(fs, call, handle, file::Data { offset, bytes: data, privileges })
        }
        Operation::Flush { handle } => file::flush(fs, handle),
        Operation::Fsync { handle, data_only } | Operation::FsyncDir { handle, data_only } => {
            file::sync(fs, handle, data_only)
        }
        Operation::Fallocate { handle, offset, length, mode } => {
            file::allocate(fs, handle, mode, offset, length)
        }
        Operation::Lseek { handle, offset, whence } => file::seek(fs, call, handle, offset, whence),
        Operation::CopyFileRange(asked) => file::copy_range(fs, call, &asked),
        Operation::Release { handle } => {
            fs.handles.release(handle);
            Ok(())
        }
        Operation::OpenDir => directory::open(fs, call),
        Operation::ReadDir { handle, offset, size } => {
            directory::list(fs, call, directory::Part { handle, offset, size }, directory::Detail::Names)
        }
        Operation::ReadDirPlus { handle, offset, size } => {
            directory::list(fs, call, directory::Part { handle, offset, size }, directory::Detail::Attributes)
        }
        Operation::SetXattr { name, value, flags } => xattr::set(fs, call, name, value, flags),
        Operation::GetXattr { name, size } => xattr::get(fs, call, name, size),
        Operation::ListXattr { size } => xattr::list(fs, call, size),
        Operation::RemoveXattr { name } => xattr::remove(fs, call, name),
        Operation::Ioctl => Err(Errno::ENOTTY),
        Operation::Destroy => Ok(()),
        // Handled before: these have no answer.
        Operation::Forget { .. } | Operation::BatchForget(_) | Operation::Interrupt => Err(Errno::EIO),
        // ACCESS too: with default_permissions the kernel checks permissions itself.
        Operation::Unknown => Err(Errno::ENOSYS),
    }
}

/// Whether an operation changes the directory.
fn changes(operation: &Operation<'_>) -> bool {
    match *operation {
        Operation::SetAttr(_)
        | Operation::Symlink { .. }
        | Operation::MkNod { .. }
        | Operation::MkDir { .. }
        | Operation::Create { .. }
        | Operation::Link { .. }
        | Operation::Unlink { .. }
        | Operation::RmDir { .. }
        | Operation::Rename { .. }
        | Operation::Write { .. }
        | Operation::Fallocate { .. }
        | Operation::CopyFileRange(_)
        | Operation::SetXattr { .. }
        | Operation::RemoveXattr { .. } => true,
        Operation::Open { flags } => {
            flags & libc::O_ACCMODE != libc::O_RDONLY || flags & (libc::O_TRUNC | libc::O_CREAT) != 0
        }
        _ => false,
    }
}

/// Answers a request whose result a dead server has recorded.
pub(crate) fn answer_recorded(fs: &FileSystem, call: &mut Call<'_>, recorded: Recorded) -> Result<(), Errno> {
    recorded.result?;
    match call.header.opcode {
        opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR | opcode::LINK | opcode::CREATE => {
            let attr = sys::attr(fs.nodes.pin(recorded.node)?.fd())?;
            call.body.entry(recorded.node, &attr)?;
        }
        opcode::SETATTR => {
            let attr = sys::attr(fs.nodes.pin(call.header.node)?.fd())?;
            call.body.attr(&attr)?;
        }
        _ => {}
    }
    match call.header.opcode {
        opcode::CREATE | opcode::OPEN | opcode::OPENDIR => call.body.open(recorded.handle),
        _ => Ok(()),
    }
}

/// Takes back what an attempt that was never answered has counted and opened.
pub(crate) fn undo(fs: &FileSystem, entry: &Entry) {
    while let Some(node) = entry.take_counted() {
        if node != ROOT_ID {
            fs.nodes.forget(node, 1);
        }
    }
    if let Some(handle) = entry.take_handle() {
        fs.handles.release(handle);
    }
}
