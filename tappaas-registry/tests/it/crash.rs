//! Kill -9 at any moment: what was acknowledged is there, and nothing visible is broken.

use std::{collections::HashMap, path::Path, process::Stdio, time::Duration};

use futures::future::join_all;
use tappaas_core::{Digest, backend::Reference};
use tappaas_registry::{Error, RepositoryName, Store};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    content::{bytes, image, noise},
    world::open,
};

const ROUNDS: u64 = 50;
/// After so many rounds a new directory is begun, so that reading everything back stays quick.
const FRESH: u64 = 5;
const WRITERS: u64 = 4;
const DIRECTORY: &str = "REGISTRY_CRASH_DIRECTORY";
const SEED: &str = "REGISTRY_CRASH_SEED";
const COLLECTS: &str = "REGISTRY_CRASH_COLLECTS";

/// What a killed process had reported as done.
#[derive(Debug, Default)]
struct Acknowledged {
    blobs: Vec<(RepositoryName, Digest)>,
    /// The last acknowledged digest of each tag, with the number of its push: a later push may have been done, too.
    tags: HashMap<(RepositoryName, String), u64>,
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let mut directory = TempDir::new().unwrap();
    let mut total = 0;
    for seed in 0..ROUNDS {
        if seed % FRESH == 0 {
            directory = TempDir::new().unwrap();
        }
        let acknowledged = run_and_kill(directory.path(), seed, false).await;
        let store = open(directory.path()).await;
        check(&store, &acknowledged, seed).await;
        total += acknowledged.blobs.len();
    }
    assert!(
        total > 500,
        "only {total} blobs were acknowledged: the kills came too early to mean anything"
    );
}

#[tokio::test]
async fn a_kill_during_deletions_and_collections_breaks_nothing() {
    let mut directory = TempDir::new().unwrap();
    for seed in 1000..1000 + ROUNDS {
        if seed % FRESH == 0 {
            directory = TempDir::new().unwrap();
        }
        run_and_kill(directory.path(), seed, true).await;
        let store = open(directory.path()).await;
        assert_eq!(store.verify().await.unwrap(), [], "seed {seed}");
    }
}

/// Starts the writer below as a process, and kills it when it has reported a number of things that the seed decides.
async fn run_and_kill(directory: &Path, seed: u64, collects: bool) -> Acknowledged {
    let own = std::env::args().next().unwrap();
    let mut child = Command::new(own)
        .args(["--exact", "crash::writers_make_whole_images", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(SEED, seed.to_string())
        .env(COLLECTS, collects.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let last = u64::from_le_bytes(noise(seed, 8)[..].try_into().unwrap()) % 60;
    let mut acknowledged = Acknowledged::default();
    let mut read = 0;
    while let Some(line) = tokio::time::timeout(Duration::from_secs(60), lines.next_line())
        .await
        .unwrap()
        .unwrap()
    {
        read += u64::from(acknowledged.add(&line));
        if read == last {
            child.start_kill().unwrap();
        }
    }
    let status = child.wait().await.unwrap();
    assert_eq!(
        status.code(),
        None,
        "seed {seed}: the writer ended by itself: {status}"
    );
    acknowledged
}

impl Acknowledged {
    /// Reads a line of the writer; says whether it was one. The last one may be cut off.
    fn add(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["blob", name, digest, "."] => self
                .blobs
                .push((name.parse().unwrap(), digest.parse().unwrap())),
            ["tag", name, tag, number, "."] => {
                self.tags.insert(
                    (name.parse().unwrap(), (*tag).to_owned()),
                    number.parse().unwrap(),
                );
            }
            _ => return false,
        }
        true
    }
}

async fn check(store: &Store, acknowledged: &Acknowledged, seed: u64) {
    assert_eq!(store.verify().await.unwrap(), [], "seed {seed}");
    for (name, digest) in &acknowledged.blobs {
        let size = store.blob_size(name, digest).await.unwrap();
        assert!(
            size.is_some(),
            "seed {seed}: {digest} was acknowledged in {name} and is gone"
        );
    }
    for ((name, tag), number) in &acknowledged.tags {
        let reference = Reference::Tag(tag.parse().unwrap());
        let digest = store.resolve(name, &reference).await.unwrap();
        let digest = digest.unwrap_or_else(|| panic!("seed {seed}: tag {tag} of {name} is gone"));
        // The writer of a tag pushes one image after another: it stands at the acknowledged one or at the next one.
        let possible = [*number, number + 1].map(|number| Digest::of(manifest(seed, name, number)));
        assert!(
            possible.contains(&digest),
            "seed {seed}: tag {tag} of {name} moved back"
        );
    }
}

fn layer(seed: u64, name: &RepositoryName, number: u64) -> bytes::Bytes {
    let seed = seed << 32 | number << 8 | u64::from(name.as_str().as_bytes()[0]);
    noise(seed, 1 + usize::try_from(seed * 7919 % 40_000).unwrap())
}

fn manifest(seed: u64, name: &RepositoryName, number: u64) -> bytes::Bytes {
    bytes(&image(b"{}", &[&layer(seed, name, number)]))
}

/// A test of its own, and the process that the tests above start and kill: then it goes on until it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::disallowed_methods,
    reason = "its parent talks to it through the environment"
)]
async fn writers_make_whole_images() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        let directory = TempDir::new().unwrap();
        let store = open(directory.path()).await;
        write_all(&store, 0, false, 5).await;
        assert_eq!(store.verify().await.unwrap(), []);
        return;
    };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let collects = std::env::var(COLLECTS).unwrap() == "true";
    let store = open(Path::new(&directory)).await;
    report("");
    if collects {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                store.collect(Duration::ZERO).await.unwrap();
            }
        });
    }
    write_all(&store, seed, collects, u64::MAX).await;
}

async fn write_all(store: &Store, seed: u64, collects: bool, images: u64) {
    let writers = (0..WRITERS)
        .map(|writer| tokio::spawn(write(store.clone(), writer, seed, collects, images)));
    for ended in join_all(writers).await {
        ended.unwrap();
    }
}

/// Pushes image after image.
async fn write(store: Store, writer: u64, seed: u64, collects: bool, images: u64) {
    let name: RepositoryName = format!("{}/app", char::from(b'a' + writer as u8))
        .parse()
        .unwrap();
    for number in 0..images {
        let layer = layer(seed, &name, number);
        for content in ["{}".into(), layer] {
            let mut writer = store.writer();
            writer.write(content).await.unwrap();
            let digest = store.commit(&name, writer, None).await.unwrap();
            report(&format!("blob {name} {digest} ."));
        }
        let tags = [format!("seed-{seed}").parse().unwrap()];
        let digest = match store
            .put_manifest(&name, None, manifest(seed, &name, number), &tags)
            .await
        {
            Ok(digest) => digest,
            Err(Error::ManifestBlobUnknown { .. }) if collects => continue,
            Err(error) => panic!("{error:?}"),
        };
        report(&format!("tag {name} seed-{seed} {number} ."));
        if collects && number % 2 == 0 {
            store
                .delete(&name, &Reference::Digest(digest))
                .await
                .unwrap();
        }
    }
}

/// Tells the parent. The full stop at the end shows that the line arrived whole.
#[expect(
    clippy::print_stdout,
    reason = "a pipe to the parent is its standard output"
)]
fn report(line: &str) {
    println!("{line}");
}
