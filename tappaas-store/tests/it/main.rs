//! The integration tests of `tappaas-store`.
#![cfg(test)]

mod compaction;
mod conformance;
mod damage;
mod directory;
mod failing;
mod fixture;
mod reopening;
mod watching;
