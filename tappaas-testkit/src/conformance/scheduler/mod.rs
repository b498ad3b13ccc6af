//! The contract of [`Scheduler`], case by case.

mod desired;
mod ending;
mod health;
mod inside;
mod limits;
mod reading;
mod references;
mod runtimes;
mod scaling;
mod stage;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tappaas_core::{
    backend::{Endpoint, Scheduler, Template, VolumeId},
    model::SecretReference,
};

use super::Failure;
use crate::Program;

pub use desired::*;
pub use ending::*;
pub use health::*;
pub use inside::*;
pub use limits::*;
pub use reading::*;
pub use references::*;
pub use runtimes::*;
pub use scaling::*;
pub use stage::Stage;
pub(crate) use stage::with_port;

/// What the suite needs to know of a scheduler. One fixture is one scheduler that nothing runs on yet.
#[async_trait]
pub trait SchedulerFixture: fmt::Debug + Send + Sync {
    /// The scheduler.
    fn scheduler(&self) -> Arc<dyn Scheduler>;

    /// A template whose instances run `program`: image, command, and of the environment what any process needs. It has no ports,
    /// probes, mounts or peers, the default resources, stop and placement, and is never restarted.
    async fn template(&self, program: &Program) -> Template;

    /// Sends a GET for `path` to an instance's endpoint, and returns the body.
    ///
    /// # Errors
    /// There is no answer, or none with status 200.
    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<String, Failure>;

    /// The command that, run in an instance, sends a GET for `/` to a host and port and writes the body of the answer, or fails.
    fn fetch(&self, host: &str, port: u16) -> Vec<String>;

    /// A new volume that templates can mount; `None` if the scheduler mounts none.
    async fn volume(&self) -> Option<VolumeId>;

    /// A reference to a value that is kept for the suite's application; `None` if the scheduler reads no secret store itself.
    async fn secret(&self, value: &str) -> Option<SecretReference>;
}

/// Expands to a test for each sentence of the contract of [`Scheduler`](tappaas_core::backend::Scheduler).
///
/// Takes an expression for a [`SchedulerFixture`](crate::conformance::scheduler::SchedulerFixture), which may `.await`, and before
/// it, optionally, the attribute that makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! scheduler_conformance {
    (#[$test:meta] $fixture:expr) => {
        $crate::conformance_tests! { scheduler, $test, $fixture,
            a_generation_applied_again_changes_nothing
            an_older_generation_is_refused
            a_generation_with_other_content_is_refused
            the_new_generation_and_counts_are_seen_once_apply_returned
            instances_that_have_to_go_are_stopping_once_apply_returned
            what_cannot_be_placed_is_a_value_with_reasons
            retiring_instances_stop_first_and_the_others_stay
            apply_never_restarts_an_instance_that_stays
            releases_run_side_by_side_with_the_counts_asked_for
            observe_of_an_unknown_workload_is_none
            remove_leaves_nothing_and_may_be_repeated
            an_environment_is_prepared_once
            a_discarded_environment_leaves_nothing
            instances_beyond_the_limits_of_their_environment_are_not_placed
            limits_that_cannot_be_kept_are_refused
            an_autoscaled_workload_stays_within_its_bounds
            what_cannot_be_autoscaled_is_refused
            a_runtime_that_is_not_there_is_refused
            list_names_what_something_is_left_of
            a_volume_for_writing_is_held_by_one_instance_at_a_time
            an_instance_is_ready_only_while_its_readiness_probe_succeeds
            an_instance_that_does_not_listen_is_never_ready
            an_instance_without_a_port_is_ready_once_it_has_run_for_a_second
            a_process_that_fails_its_liveness_probe_is_started_again
            a_request_to_an_endpoint_reaches_its_instance
            the_only_port_listened_on_replaces_an_undeclared_one
            a_declared_port_is_never_replaced
            an_instance_gets_its_stop_signal
            an_instance_gets_its_grace
            an_instance_is_killed_once_its_grace_is_over
            a_process_that_ends_is_started_again_with_growing_delays
            a_process_that_keeps_ending_is_in_a_crash_loop
            a_process_restarted_on_failure_alone_may_exit_well
            a_process_that_is_never_restarted_stays_exited
            a_process_above_its_memory_limit_is_killed_for_it
            a_process_sees_its_environment
            a_variable_that_refers_to_a_secret_has_its_value
            an_instance_whose_secret_is_missing_does_not_start_and_says_so
            a_reference_to_another_secret_store_is_refused
            a_process_without_privilege_is_not_root
            exec_returns_output_and_exit_code
            exec_passes_input_on
            exec_without_an_instance_is_not_found
            logs_are_in_order_and_outlive_their_instances
            logs_go_on_while_they_are_followed
            logs_are_chosen_by_process_release_and_tail
            watch_names_a_workload_that_changed
            a_peer_is_always_at_the_same_address
        }
    };
    ($fixture:expr) => {
        $crate::scheduler_conformance!(
            #[tokio::test]
            $fixture
        );
    };
}
