mod durable {
    tappaas_testkit::durable_conformance!(std::sync::Arc::new(crate::fixture::fresh()));
}

mod store {
    tappaas_testkit::store_conformance!(std::sync::Arc::new(crate::fixture::fresh()));
}

mod durable_after_reopening {
    tappaas_testkit::durable_conformance!(std::sync::Arc::new(crate::reopening::Reopening::new()));
}

mod store_after_reopening {
    tappaas_testkit::store_conformance!(std::sync::Arc::new(crate::reopening::Reopening::new()));
}
