//! No case is forgotten in the macro of its suite.

const SUITES: [(&str, &[&str]); 7] = [
    (
        include_str!("../../src/conformance/builder/mod.rs"),
        &[
            include_str!("../../src/conformance/builder/keys.rs"),
            include_str!("../../src/conformance/builder/running.rs"),
        ],
    ),
    (
        include_str!("../../src/conformance/ingress/mod.rs"),
        &[
            include_str!("../../src/conformance/ingress/changing.rs"),
            include_str!("../../src/conformance/ingress/forwarding.rs"),
            include_str!("../../src/conformance/ingress/matching.rs"),
            include_str!("../../src/conformance/ingress/observing.rs"),
        ],
    ),
    (
        include_str!("../../src/conformance/registry/mod.rs"),
        &[
            include_str!("../../src/conformance/registry/blobs.rs"),
            include_str!("../../src/conformance/registry/manifests.rs"),
            include_str!("../../src/conformance/registry/tags.rs"),
        ],
    ),
    (
        include_str!("../../src/conformance/scheduler/mod.rs"),
        &[
            include_str!("../../src/conformance/scheduler/desired.rs"),
            include_str!("../../src/conformance/scheduler/ending.rs"),
            include_str!("../../src/conformance/scheduler/health.rs"),
            include_str!("../../src/conformance/scheduler/inside.rs"),
            include_str!("../../src/conformance/scheduler/limits.rs"),
            include_str!("../../src/conformance/scheduler/reading.rs"),
            include_str!("../../src/conformance/scheduler/references.rs"),
            include_str!("../../src/conformance/scheduler/runtimes.rs"),
            include_str!("../../src/conformance/scheduler/scaling.rs"),
        ],
    ),
    (
        include_str!("../../src/conformance/secrets.rs"),
        &[include_str!("../../src/conformance/secrets.rs")],
    ),
    (
        include_str!("../../src/conformance/switch.rs"),
        &[include_str!("../../src/conformance/switch.rs")],
    ),
    (
        include_str!("../../src/conformance/volumes.rs"),
        &[include_str!("../../src/conformance/volumes.rs")],
    ),
];

#[test]
fn every_case_is_in_the_macro_of_its_suite() {
    for (suite, files) in SUITES {
        let (_, listed) = suite.split_once("$test, $f").unwrap();
        let (listed, _) = listed.split_once('}').unwrap();
        let listed: Vec<_> = listed.split_whitespace().skip(1).collect();
        let cases = files
            .iter()
            .flat_map(|file| file.lines())
            .filter_map(|line| line.strip_prefix("pub async fn ")?.split('(').next())
            .collect::<Vec<_>>();
        assert!(!cases.is_empty());
        for case in &cases {
            assert!(listed.contains(case), "`{case}` runs nowhere");
        }
        assert_eq!(cases.len(), listed.len(), "{listed:?}");
    }
}
