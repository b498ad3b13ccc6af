//! Conformance suites, fault injection and clocks for testing TAPPaaS backends.

pub mod conformance;
