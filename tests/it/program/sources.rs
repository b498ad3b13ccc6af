use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Writes a folder of source code: each file's path and content.
pub(super) fn write(folder: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(folder).unwrap();
    for (path, content) in files {
        fs::write(folder.join(path), content).unwrap();
    }
}

/// Writes an application whose process `web` runs the test's server after the shell did what `first` says, and whose page is `page`.
pub(super) fn write_server(folder: &Path, page: &str, first: &str, manifest: &str) {
    let procfile = format!("web: {first} exec ./server\n");
    let files = [
        ("Procfile", procfile.as_str()),
        ("page", page),
        ("tappaas.toml", manifest),
    ];
    write(folder, &files);
    fs::copy(compiled(), folder.join("server")).unwrap();
}

/// The program in `server.rs`, compiled once.
fn compiled() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/program/server.rs");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let draft = folder.join(format!("served-{}", std::process::id()));
        let compiled = Command::new("rustc")
            .args(["--edition=2024", "-Copt-level=1", "-Cstrip=symbols", "-o"])
            .arg(&draft)
            .arg(source)
            .status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "cannot compile the program that the tests' applications serve with"
        );
        // Another run of these tests may copy it at this moment.
        let program = folder.join("served");
        fs::rename(draft, &program).unwrap();
        program
    })
}
