//! What does the engine do to this node, and what does it offer to the CSI desks?
