//! The contract of [`Store`](tappaas_core::Store), sentence by sentence. Each case expects an empty store that keeps at least the last
//! hundred changes, and in which the [`scopes`] may be used.

mod concurrency;
mod fixture;
mod reading;
mod removing;
mod watching;
mod writing;

pub use concurrency::*;
pub use fixture::scopes;
pub use reading::*;
pub use removing::*;
pub use watching::*;
pub use writing::*;

/// Runs every case of [`conformance::store`](crate::conformance::store), each as a test of its own on a fresh `Arc<dyn Store>`.
///
/// The expression may await. The calling crate needs `tokio` with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! store_conformance {
    ($fresh:expr) => {
        $crate::store_conformance! { @cases $fresh =>
            creating_assigns_identity_and_ignores_the_status
            creating_what_is_there_fails
            replacing_honours_the_revision_and_keeps_the_status
            replacing_whatever_is_there_needs_something_there
            the_generation_rises_with_the_spec_alone
            a_write_that_changes_nothing_leaves_no_trace
            identity_cannot_be_written
            a_status_is_written_alone
            a_status_honours_its_precondition
            every_json_value_survives
            a_number_at_the_edge_is_kept_or_refused
            bad_keys_are_refused
            objects_too_large_or_too_deep_are_refused
            deleting_removes_what_has_no_finalizers
            deleting_waits_for_finalizers
            no_finalizer_is_added_once_deletion_was_asked_for
            a_removal_has_its_own_revision
            deleting_what_is_not_there_succeeds
            deleting_honours_the_revision
            a_namesake_is_another_object
            reads_see_the_last_answered_write
            a_listing_is_ordered_and_keeps_to_its_scope
            a_listing_comes_in_pages
            all_pages_of_a_listing_show_one_revision
            a_listing_needs_a_limit
            a_watch_yields_every_change_in_order
            a_watch_begins_right_after_its_revision
            a_watch_sees_its_kind_alone
            a_listing_and_a_watch_join_without_a_gap
            a_watch_from_the_future_expires
            a_slow_watcher_misses_nothing_or_expires
            of_concurrent_creators_one_succeeds
            of_concurrent_writers_one_succeeds_at_each_revision
            concurrent_watchers_see_one_history
        }
    };
    (@cases $fresh:expr => $($case:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let store: std::sync::Arc<dyn tappaas_core::Store> = $fresh;
                $crate::conformance::store::$case(store).await.unwrap();
            }
        )+
    };
}
