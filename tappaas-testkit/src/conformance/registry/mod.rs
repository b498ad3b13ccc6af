//! The contract of [`Registry`], case by case.
//!
//! That what was pushed is durable, and that damage is found by `pull`, is for each registry's own tests: no fixture can pull a plug or
//! turn a bit.

mod blobs;
mod manifests;
mod shelf;
mod tags;

use std::{fmt, sync::Arc};

use tappaas_core::backend::{Registry, Repository};

pub use blobs::*;
pub use manifests::*;
pub use shelf::{Shelf, SmallImage};
pub use tags::*;

/// What the suite needs to know of a registry. One fixture is one registry in which [`RegistryFixture::repository`] names nothing yet.
pub trait RegistryFixture: fmt::Debug + Send + Sync {
    /// The registry.
    fn registry(&self) -> Arc<dyn Registry>;

    /// A repository that the suite may use, one for each name.
    fn repository(&self, name: &str) -> Repository;
}

/// Expands to a test for each sentence of the contract of [`Registry`](tappaas_core::backend::Registry).
///
/// Takes an expression for a [`RegistryFixture`](crate::conformance::registry::RegistryFixture), which may `.await`, and before it,
/// optionally, the attribute that makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! registry_conformance {
    (#[$test:meta] $fixture:expr) => {
        $crate::conformance_tests! { registry, $test, $fixture,
            what_is_pushed_is_pulled_byte_for_byte
            content_that_does_not_hash_to_its_digest_is_refused
            a_push_that_breaks_off_leaves_nothing
            pushing_what_is_there_succeeds
            unknown_content_is_not_found
            repositories_do_not_see_each_others_content
            of_concurrent_pushes_all_succeed
            a_manifest_needs_everything_it_names
            a_manifest_must_not_contradict_itself
            a_manifest_has_at_most_4_mib
            an_index_names_manifests
            a_tag_resolves_to_its_manifest_and_moves_at_once
            a_tag_needs_its_manifest
            an_unknown_reference_resolves_to_none
            tags_are_listed_in_order
            deleting_a_tag_leaves_its_manifest
            deleting_a_manifest_removes_its_tags
            deleting_the_unknown_succeeds
        }
    };
    ($fixture:expr) => {
        $crate::registry_conformance!(
            #[tokio::test]
            $fixture
        );
    };
}
