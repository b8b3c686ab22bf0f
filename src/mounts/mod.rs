//! What is mounted, and how is a mount made or taken away without ever waiting on a FUSE server?
