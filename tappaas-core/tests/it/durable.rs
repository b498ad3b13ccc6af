use std::sync::Arc;

use tappaas_core::memory;

tappaas_testkit::durable_conformance!(Arc::new(memory::Durable::new()));
