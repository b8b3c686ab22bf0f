//! How are volumes of a filesystem made, grown, copied, listed and removed?
