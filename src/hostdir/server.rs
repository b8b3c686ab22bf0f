//! How does a serving process answer requests?
//!
//! After a takeover one thread alone answers what the dead server had read (the kernel puts resent requests in front
//! of all others), so that every record it left is either used or known to be of an answered request. Then all
//! workers read, each into memory of its own, from the one descriptor: a cloned descriptor would end its requests
//! with ECONNABORTED when its process dies.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use nix::errno::Errno;

use super::chaos::{Chaos, Point};
use super::ops::{self, Call, FileSystem};
use super::protocol::opcode::{Replay, replay_class};
use super::protocol::reply::{self, Body};
use super::protocol::request::{self, Header, Operation};
use super::state::Layout;
use super::state::journal::{Entry, Journal, Progress};
use super::sys::{self, ResidentBuffer};
use super::{fds, init};

/// Room in front of a WRITE's data, and what the kernel asks for at least (`FUSE_MIN_READ_BUFFER`).
const REQUEST_OVERHEAD: usize = 8192;

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The file system was unmounted.
    Unmounted,
    /// The connection was aborted.
    Aborted,
    /// Reading requests failed in a way that a new server will not mend.
    Failed(Errno),
}

/// What all workers share.
pub(crate) struct Server {
    fs: FileSystem,
    chaos: Chaos,
    journal: Journal,
    served: &'static AtomicU64,
    resent: &'static AtomicU64,
}

/// The memory of one worker.
struct Buffers {
    request: ResidentBuffer,
    reply: ResidentBuffer,
}

impl Buffers {
    fn new(max_write: u32) -> Result<Self, Errno> {
        let payload = usize::try_from(max_write).map_err(|_| Errno::EINVAL)?;
        let largest_read = usize::try_from(init::WANTED_INIT.max_write).map_err(|_| Errno::EINVAL)?;
        Ok(Self {
            request: ResidentBuffer::new(payload + REQUEST_OVERHEAD)?,
            reply: ResidentBuffer::new(payload.max(largest_read) + REQUEST_OVERHEAD)?,
        })
    }

    fn are_locked(&self) -> bool {
        self.request.is_locked() && self.reply.is_locked()
    }
}

/// How many workers with how large buffers.
#[derive(Clone, Copy)]
pub(crate) struct Workers {
    pub(crate) count: usize,
    pub(crate) max_write: u32,
}

impl Server {
    pub(crate) fn new(layout: &'static Layout, fs: FileSystem, chaos: Chaos) -> Self {
        let (served, resent) = (&layout.header.served, &layout.header.resent);
        Self { fs, chaos, journal: Journal::new(layout), served, resent }
    }

    /// Answers requests until the connection ends. `ready` is called once everything is in place.
    ///
    /// # Errors
    /// When memory or threads cannot be had.
    pub(crate) fn run(&self, workers: Workers, ready: impl FnOnce()) -> Result<End, Errno> {
        let mut all =
            (0..workers.count).map(|_| Buffers::new(workers.max_write)).collect::<Result<Vec<_>, _>>()?;
        if !all.iter().all(Buffers::are_locked) {
            tracing::debug!("request buffers are resident but not locked: RLIMIT_MEMLOCK is too small");
        }
        ready();
        let replayed = all.first_mut().map_or(Ok(()), |buffers| self.answer_resent(buffers));
        if let Err(end) = replayed {
            return Ok(end);
        }
        let entries = self.journal.free_entries(all.len());
        std::thread::scope(|scope| {
            let spawn = |(mut buffers, entry): (Buffers, Entry)| {
                let work = move || loop {
                    if let Err(end) = self.serve_next(&mut buffers, entry) {
                        return end;
                    }
                };
                std::thread::Builder::new().name("fuse-worker".into()).spawn_scoped(scope, work)
            };
            let spawned = all.into_iter().zip(entries).map(spawn).collect::<Result<Vec<_>, _>>();
            let ends =
                spawned.map_err(|_| Errno::EAGAIN)?.into_iter().map(std::thread::ScopedJoinHandle::join);
            Ok(ends.flatten().last().unwrap_or(End::Failed(Errno::EIO)))
        })
    }

    /// Answers the requests that a dead server left, then frees the records of those that it had answered.
    fn answer_resent(&self, buffers: &mut Buffers) -> Result<(), End> {
        let mut left = self.journal.leftovers();
        while !left.is_empty() && sys::readable(fds::FUSE) {
            let Some(bytes) = receive(&mut buffers.request)? else { continue };
            let was_resent = request::parse_header(bytes).is_ok_and(|(header, _)| header.is_resent());
            let entry = self.claim(bytes, &mut left);
            match entry {
                Some((entry, progress)) => self.answer(bytes, &mut buffers.reply, entry, progress),
                None => tracing::error!("the journal is full: a request goes unanswered"),
            }
            if !was_resent && !is_unanswered(bytes) {
                break;
            }
        }
        left.values().for_each(Entry::free);
        Ok(())
    }

    /// The record of a resent request with the progress in it, or a free one.
    fn claim(&self, bytes: &[u8], left: &mut HashMap<u64, Entry>) -> Option<(Entry, Progress)> {
        let known = request::parse_header(bytes).ok().filter(|(header, _)| header.is_resent());
        match known.and_then(|(header, _)| left.remove(&header.id())) {
            Some(entry) => Some((entry, entry.progress())),
            None => self.journal.free_entries(1).first().map(|entry| (*entry, Progress::None)),
        }
    }

    fn serve_next(&self, buffers: &mut Buffers, entry: Entry) -> Result<(), End> {
        if let Some(bytes) = receive(&mut buffers.request)? {
            self.answer(bytes, &mut buffers.reply, entry, Progress::None);
        }
        Ok(())
    }

    fn answer(&self, bytes: &[u8], buffer: &mut ResidentBuffer, entry: Entry, progress: Progress) {
        let Ok((header, arguments)) = request::parse_header(bytes) else {
            tracing::error!(length = bytes.len(), "the kernel sent a request without a proper header");
            return;
        };
        let operation = request::parse_operation(header.opcode, arguments);
        match operation {
            Ok(Operation::Forget { count }) => self.fs.nodes.forget(header.node, count),
            Ok(Operation::BatchForget(list)) => {
                list.iter().for_each(|(node, count)| self.fs.nodes.forget(node, count));
            }
            Ok(Operation::Interrupt) => {} // every operation ends by itself
            _ => self.answer_one(header, operation, buffer, entry, progress),
        }
    }

    fn answer_one(
        &self,
        header: Header,
        operation: Result<Operation<'_>, request::Malformed>,
        buffer: &mut ResidentBuffer,
        entry: Entry,
        progress: Progress,
    ) {
        let (head, body) = buffer.bytes().split_at_mut(reply::HEADER_LEN);
        let mut call = Call { header, entry, progress, body: Body::new(body) };
        match progress {
            Progress::None => entry.begin(header.id(), header.opcode),
            Progress::Read => {
                ops::undo(&self.fs, &entry);
                entry.begin(header.id(), header.opcode);
            }
            Progress::Started(_) => ops::undo(&self.fs, &entry),
            Progress::Done(_) => {}
        }
        self.chaos.at(Point::BeforeOperation);
        let result = match (progress, operation) {
            (Progress::Done(recorded), _) => ops::answer_recorded(&self.fs, &mut call, recorded),
            (_, Ok(operation)) => ops::execute(&self.fs, &mut call, &operation),
            (_, Err(malformed)) => {
                tracing::debug!(opcode = header.opcode, %malformed, "refused a malformed request");
                Err(malformed.errno())
            }
        };
        self.chaos.at(Point::AfterOperation);
        if result.is_err() {
            call.body.clear();
            ops::undo(&self.fs, &entry);
        }
        if replay_class(header.opcode) == Replay::Recorded {
            entry.finish(result);
        }
        self.chaos.at(Point::BeforeReply);
        let body_len = call.body.len();
        let error = result.err().map_or(0, |errno| -(errno as i32));
        self.count(&header);
        if reply::header(header.unique, error, body_len).map(|bytes| head.copy_from_slice(&bytes)).is_ok() {
            self.send(&header, &buffer.bytes()[..reply::HEADER_LEN + body_len], &entry);
        }
        self.chaos.at(Point::AfterReply);
        entry.free();
    }

    fn send(&self, header: &Header, answer: &[u8], entry: &Entry) {
        match sys::write(fds::FUSE, answer) {
            Ok(_) => {}
            // The request is gone (its connection was aborted): the kernel knows nothing of what was counted.
            Err(Errno::ENOENT) => ops::undo(&self.fs, entry),
            Err(Errno::ENODEV | Errno::ECONNABORTED | Errno::ENOTCONN) => {}
            Err(error) => {
                tracing::error!(opcode = header.opcode, %error, "the kernel refused an answer");
            }
        }
    }

    fn count(&self, header: &Header) {
        self.served.fetch_add(1, Relaxed);
        if header.is_resent() {
            self.resent.fetch_add(1, Relaxed);
        }
    }

    /// Makes what is still open durable, before the process ends for good.
    pub(crate) fn flush(&self) {
        self.fs.handles.sync_all();
    }
}

/// FORGET and INTERRUPT may come between resent requests.
fn is_unanswered(bytes: &[u8]) -> bool {
    use super::protocol::opcode::{BATCH_FORGET, FORGET, INTERRUPT};
    request::parse_header(bytes)
        .is_ok_and(|(header, _)| matches!(header.opcode, FORGET | BATCH_FORGET | INTERRUPT))
}

/// Reads one request; `None` when there was none after all.
fn receive(buffer: &mut ResidentBuffer) -> Result<Option<&[u8]>, End> {
    let bytes = buffer.bytes();
    match sys::read(fds::FUSE, bytes) {
        Ok(length) => Ok(Some(&bytes[..length])),
        Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOENT) => Ok(None),
        Err(Errno::ENODEV) => Err(End::Unmounted),
        Err(Errno::ECONNABORTED | Errno::ENOTCONN) => Err(End::Aborted),
        Err(error) => Err(End::Failed(error)),
    }
}
