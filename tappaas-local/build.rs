//! Compiles the file server that images of static sites carry, for `src/fileserver.rs` to embed.

use std::{env, path::PathBuf, process::Command};

const SOURCE: &str = "fileserver/src/main.rs";

fn main() {
    println!("cargo::rerun-if-changed=fileserver");
    println!("cargo::rerun-if-changed=build.rs");
    let program = PathBuf::from(variable("OUT_DIR")).join("fileserver");
    let linked_statically = compile(&program, true);
    if !linked_statically {
        println!(
            "cargo::warning=cannot link the file server statically (is the C library's static archive installed?): static sites will need the stack `host`"
        );
        assert!(compile(&program, false), "cannot compile {SOURCE}");
    }
    println!("cargo::rustc-env=TAPPAAS_FILESERVER={}", program.display());
    println!("cargo::rustc-env=TAPPAAS_FILESERVER_STATIC={linked_statically}");
}

fn compile(program: &std::path::Path, statically: bool) -> bool {
    let feature = if statically {
        "target-feature=+crt-static"
    } else {
        "target-feature=-crt-static"
    };
    let mut command = Command::new(variable("RUSTC"));
    command
        .args([
            "--edition",
            "2024",
            "--crate-name",
            "fileserver",
            "--crate-type",
            "bin",
        ])
        .args(["--target", &variable("TARGET")])
        .args([
            "-C",
            feature,
            "-C",
            "opt-level=3",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        // The same program wherever this is compiled.
        .arg(format!(
            "--remap-path-prefix={}=",
            variable("CARGO_MANIFEST_DIR")
        ))
        .args(["-F", "unsafe_code"])
        .arg(SOURCE)
        .arg("-o")
        .arg(program);
    if let Some(linker) = optional("RUSTC_LINKER") {
        command.args(["-C", &format!("linker={linker}")]);
    }
    command.status().is_ok_and(|status| status.success())
}

fn variable(name: &str) -> String {
    optional(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo tells a build script everything through its environment"
)]
fn optional(name: &str) -> Option<String> {
    env::var(name).ok()
}
