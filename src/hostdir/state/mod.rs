//! What survives the serving process? Tables in shared memory that every later server of the session reads.
//!
//! All of it is made of atomics in a memfd, written so that a kill between any two instructions leaves a table that
//! can be used: a record's id is published last and taken back first, lookup counts go up before an answer and down
//! after a FORGET was read. A crash can leak a count; it can never lose one.

pub(crate) mod handles;
pub(crate) mod journal;
pub(crate) mod layout;
pub(crate) mod names;
pub(crate) mod nodes;
pub(crate) mod slots;
mod sys;

pub(crate) use layout::Layout;
pub(crate) use sys::map;
