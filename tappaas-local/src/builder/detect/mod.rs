//! Tells from the files of a source how to build and start it. Pure: nothing is read but a [`Listing`], nothing is run.

mod decide;
mod go;
mod listing;
mod node;
mod plan;
mod python;
mod rust;
mod site;

pub(super) use decide::{Wishes, decide, web};
pub(super) use listing::Listing;
pub(super) use plan::{Ground, Plan, Step, Tool};
pub(super) use site::FILE_SERVER;

#[cfg(test)]
mod tests;
