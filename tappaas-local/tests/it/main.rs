//! Everything about one machine, in one binary.

mod archive;
