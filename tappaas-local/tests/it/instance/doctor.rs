use tappaas_local::{Isolation, Report, State};

use super::bench::Bench;

#[tokio::test]
async fn the_report_says_what_the_other_tests_find() {
    let bench = Bench::new().await;
    std::fs::create_dir(bench.dir("scratch")).unwrap();
    let report = Report::of_this_machine(&bench.helper(), &bench.dir("scratch"))
        .await
        .unwrap();
    let root = nix::unistd::geteuid().is_root();
    assert_eq!(report.root, root);
    let expected = if root {
        Isolation::Privileged
    } else {
        Isolation::Rootless
    };
    assert_eq!(report.isolation().unwrap(), expected);
    assert_eq!(report.seccomp.state, State::Ok);
    let (_, status) = bench.run(&bench.spec("probe", "true")).await;
    assert_eq!(status.enforced, report.enforced);
    for finding in [&report.limits, &report.network] {
        assert!(
            finding.state == State::Ok || finding.remedy.is_some(),
            "{finding:?}"
        );
    }
    bench.check_census().await;
}

#[tokio::test]
async fn a_program_that_is_no_helper_is_told_from_a_machine_that_allows_nothing() {
    let bench = Bench::new().await;
    let error = Report::of_this_machine("/bin/true".as_ref(), bench.path())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("/bin/true is no helper program"),
        "{error}"
    );
}
