//! What does the driver tell people: logs, and what must never be in them?
