use std::{fs, time::Duration};

use tappaas_local::{LogLimits, Phase, Stream};

use super::bench::{Bench, lines, until, wait_for};

#[tokio::test]
async fn a_flood_stays_within_its_files_and_slows_nobody_else() {
    let bench = Bench::new().await;
    let mut flood = bench.spec("flood", "exec yes 0123456789012345678901234567890123456789");
    flood.log = LogLimits {
        file_bytes: 1 << 20,
        files: 2,
        line_bytes: 1 << 10,
        bytes_per_second: 8 << 20,
    };
    let flooding = bench.start(&flood).await;
    let sizes = || -> Vec<u64> {
        let files = fs::read_dir(flooding.dir()).unwrap().flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("log"));
        logs.filter_map(|log| Some(log.metadata().ok()?.len()))
            .collect()
    };
    until("the log is full", || async { sizes().len() == 3 })
        .await
        .unwrap();
    for _ in 0..100 {
        assert!(sizes().iter().sum::<u64>() <= 3 << 20, "{:?}", sizes());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (output, _) = bench.run(&bench.spec("calm", "echo fine")).await;
    assert_eq!(output, "fine\n");
    // Whoever reads more slowly than this writes never comes to its end.
    flooding.stop(Some(Duration::ZERO)).await.unwrap();
    let kept = lines(flooding.dir());
    assert!(
        kept.len() > 1_000
            && kept
                .iter()
                .all(|line| line.text == "0123456789012345678901234567890123456789")
    );
    flooding.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn lines_carry_their_time_and_stream_and_long_ones_are_split() {
    let bench = Bench::new().await;
    let mut spec = bench.spec(
        "lines",
        "echo out; echo err >&2; head -c 2500 /dev/zero | tr '\\0' a; echo; printf 'no end'",
    );
    spec.log.line_bytes = 1_000;
    let instance = bench.start(&spec).await;
    wait_for(&mut instance.subscribe().await.unwrap(), |status| {
        status.phase == Phase::Ended
    })
    .await;
    let lines = lines(instance.dir());
    let of = |stream: Stream| lines.iter().filter(move |line| line.stream == stream);
    let stdout: Vec<_> = of(Stream::Stdout)
        .map(|line| (line.text.len(), line.whole))
        .collect();
    assert_eq!(
        stdout,
        [
            (3, true),
            (1_000, false),
            (1_000, false),
            (500, true),
            (6, true)
        ]
    );
    assert_eq!(of(Stream::Stderr).count(), 1);
    assert!(lines.is_sorted_by_key(|line| line.at));
    instance.remove().await.unwrap();
}
