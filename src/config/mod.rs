//! What was I told? Flags, parameters and secrets become typed values here.
