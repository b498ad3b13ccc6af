//! The in-memory backends keep the contracts that they are the reference of.

mod ingress {
    use tappaas_testkit::Memory;

    tappaas_testkit::ingress_conformance!(#[tokio::test(start_paused = true)] Memory::new());
}

mod scheduler {
    use tappaas_testkit::Memory;

    tappaas_testkit::scheduler_conformance!(#[tokio::test(start_paused = true)] Memory::new());
}

mod switch {
    use tappaas_testkit::Memory;

    tappaas_testkit::switch_conformance!(#[tokio::test(start_paused = true)] Memory::new());
}
