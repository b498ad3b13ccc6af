use std::{
    fs::OpenOptions,
    io::{ErrorKind, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail};

use crate::output::Printer;

const SAMPLE: &str = include_str!("sample.toml");

/// Writes a manifest in which everything is a comment: every key has a default.
pub(super) fn init(printer: Printer, folder: &Path) -> Result<()> {
    let path = folder.join("tappaas.toml");
    let shown = path.display();
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    if let Err(error) = &file
        && error.kind() == ErrorKind::AlreadyExists
    {
        bail!("{shown} exists already; it stays as it is");
    }
    file.and_then(|mut file| file.write_all(SAMPLE.as_bytes()))
        .with_context(|| format!("cannot write {shown}"))?;
    printer.value(&serde_json::json!({ "path": path }), |_| {
        printer.line(format_args!(
            "wrote {shown}; every line in it is a comment, because everything has a default"
        ));
    })
}

#[cfg(test)]
mod tests {
    use tappaas_core::manifest::Manifest;

    #[test]
    fn the_sample_is_a_good_manifest_with_and_without_its_comments() {
        Manifest::parse(super::SAMPLE, "sample.toml").unwrap();
        let uncommented: Vec<&str> = super::SAMPLE
            .lines()
            .filter_map(|line| line.strip_prefix("#: "))
            .collect();
        assert!(uncommented.len() > 10);
        Manifest::parse(&uncommented.join("\n"), "sample.toml").unwrap();
    }
}
