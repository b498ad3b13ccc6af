//! The contract of [`Builder`], case by case.
//!
//! That a build can neither read nor change anything of its machine is for each builder's own tests: no fixture can plant what is to
//! be found.

mod bench;
mod keys;
mod running;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tappaas_core::{
    backend::{Builder, Registry},
    model::{BuildSpec, Source},
};

use super::Failure;

pub use bench::Bench;
pub use keys::*;
pub use running::*;

/// What the suite needs to know of a builder. One fixture is one builder that has built nothing yet.
#[async_trait]
pub trait BuilderFixture: fmt::Debug + Send + Sync {
    /// The builder.
    fn builder(&self) -> Arc<dyn Builder>;

    /// The registry that it reads uploads from and pushes images to.
    fn registry(&self) -> Arc<dyn Registry>;

    /// Provides the source of a project, and says how it is built. `None`: the builder cannot build such a thing.
    async fn source(&self, project: &Project) -> Result<Option<(Source, BuildSpec)>, Failure>;
}

/// A project that the suite wants to build. Its build begins with the line `building NAME` in its log.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Project {
    /// Makes its source and its image different from others'.
    pub name: String,
    /// How its build goes.
    pub course: Course,
}

/// How the build of a project goes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Course {
    /// It takes so long, finds or declares a process `web`, and writes `done` as its last line.
    Good(Duration),
    /// It fails because of the source.
    Broken,
    /// It exceeds one of the builder's limits.
    Greedy,
}

/// Expands to a test for each sentence of the contract of [`Builder`](tappaas_core::backend::Builder).
///
/// Takes an expression for a [`BuilderFixture`](crate::conformance::builder::BuilderFixture), which may `.await`, and before it,
/// optionally, the attribute that makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! builder_conformance {
    (#[$test:meta] $fixture:expr) => {
        $crate::conformance_tests! { builder, $test, $fixture,
            a_built_image_is_whole_in_its_repository
            the_same_key_gives_the_same_image
            a_finished_key_is_answered_without_building
            a_finished_key_whose_image_is_gone_is_built_again
            another_source_is_another_image
            an_unknown_stack_is_refused
            a_running_key_is_attached_to
            a_build_goes_on_when_nobody_waits
            a_source_that_does_not_build_is_invalid
            a_build_above_a_limit_is_exhausted
            a_cancelled_build_is_a_conflict
            cancelling_one_request_leaves_the_others
            cancelling_the_unknown_succeeds
            logs_are_in_order_and_outlive_the_build
            followed_logs_end_with_the_build
            list_names_what_is_queued_or_running
        }
    };
    ($fixture:expr) => {
        $crate::builder_conformance!(
            #[tokio::test]
            $fixture
        );
    };
}
