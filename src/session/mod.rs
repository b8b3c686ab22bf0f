//! Who holds the FUSE connection of a session, and who serves it now?
