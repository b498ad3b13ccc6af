//! Each language is built twice from nothing, in different folders, to the same image, and served.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use tappaas_core::{ErrorKind, backend::Builder as _, memory, model::Source};
use tempfile::TempDir;

use super::bench::{Bench, lacks, request, text};

/// What a language needs, and what a missing toolchain is told as.
struct Language {
    programs: &'static [&'static str],
    told: &'static str,
}

/// Builds and serves a source twice. Where the language's toolchain is missing, that must be told instead.
async fn check(bench: Bench, language: &Language, source: Source, detected: &str, expected: &str) {
    if let Some(missing) = lacks(&bench.config.toolchains, language.programs) {
        eprintln!(
            "!!! NOT BUILT, FOR THIS MACHINE HAS NO {missing}: only the message about it is tested"
        );
        let builder = bench.builder().await;
        let error = builder
            .build(&request("1", "app", source))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(language.told), "{error}");
        assert!(error.message().contains("`host` does not have"), "{error}");
        return;
    }
    let mut bench = bench;
    let mut digests = Vec::new();
    for folder in ["first", "second/with/a/longer/name"] {
        bench.config.data_dir = bench.folder.path().join(folder);
        bench.parts.durable = Arc::new(memory::Durable::new());
        let builder = bench.builder().await;
        let built = builder.build(&request("1", "app", source.clone())).await;
        let log = text(&builder, "1").await;
        let built = built.unwrap_or_else(|error| panic!("{error:?}\n{log}"));
        assert!(!built.cached);
        assert!(built.detected.starts_with(detected), "{}", built.detected);
        assert!(
            built
                .stack
                .as_deref()
                .is_some_and(|stack| stack.starts_with("host@"))
        );
        let answer = bench.serve(&built, "/").await;
        assert!(answer.ends_with(expected), "{answer}\n{log}");
        digests.push(built.image.digest.clone());
        builder.close().await;
    }
    assert_eq!(digests[0], digests[1]);
}

/// Programs that need no stack: the image has nothing else in it, and runs all the same.
#[tokio::test]
async fn a_go_program_is_an_image_by_itself() {
    let bench = Bench::new().await;
    if let Some(missing) = lacks(&bench.config.toolchains, GO.programs) {
        eprintln!("!!! NOT BUILT, FOR THIS MACHINE HAS NO {missing}");
        return;
    }
    let main = r#"package main

import "net/http"

func main() {
	http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("alone"))
	}))
}
"#;
    let files = [
        ("go.mod", "module example.com/alone\n\ngo 1.21\n"),
        ("main.go", main),
    ];
    let source = bench.upload(&files).await;
    let mut request = request("1", "app", source);
    request.spec.stack = Some("scratch".to_owned());
    let builder = bench.builder().await;
    let built = builder.build(&request).await;
    let log = text(&builder, "1").await;
    let built = built.unwrap_or_else(|error| panic!("{error:?}\n{log}"));
    assert_eq!(built.stack, None);
    let config = &bench.config_of(&built).await["config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["/app/bin/alone"]));
    let answer = bench.serve(&built, "/").await;
    assert!(answer.ends_with("alone"), "{answer}\n{log}");
    builder.close().await;
}

#[tokio::test]
async fn what_cannot_stand_alone_is_refused() {
    let bench = Bench::new().await;
    for (files, told) in [
        (&[("app.py", "print(1)")][..], "Go or Rust"),
        (
            &[("go.mod", "module a\n"), ("Procfile", "web: ./a\n")],
            "no shell",
        ),
    ] {
        let source = bench.upload(files).await;
        let mut request = request("1", "app", source);
        request.spec.stack = Some("scratch".to_owned());
        let builder = bench.builder().await;
        let error = builder.build(&request).await.unwrap_err();
        assert!(error.message().contains(told), "{error}");
        builder.close().await;
    }
}

const GO: Language = Language {
    programs: &["go"],
    told: "needs Go (go.mod says 1.21)",
};

#[tokio::test]
async fn go_is_built_and_served() {
    let bench = Bench::new().await;
    let main = r#"package main

import (
	"net"
	"os"

	"example.com/hello/greet"
)

func main() {
	listener, err := net.Listen("tcp", ":"+os.Getenv("PORT"))
	if err != nil {
		panic(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		conn.Read(make([]byte, 1024))
		conn.Write([]byte("HTTP/1.0 200 OK\r\n\r\n" + greet.Line()))
		conn.Close()
	}
}
"#;
    let other = "package main\n\nfunc main() {}\n";
    let greet = "package greet\n\nfunc Line() string { return \"hello from go\" }\n";
    let files = [
        ("go.mod", "module example.com/hello\n\ngo 1.21\n"),
        ("cmd/hello/main.go", main),
        ("cmd/other/main.go", other),
        ("greet/greet.go", greet),
    ];
    let source = bench.upload(&files).await;
    check(
        bench,
        &GO,
        source,
        "go 1.21, module example.com/hello",
        "hello from go",
    )
    .await;
}

const NODE: Language = Language {
    programs: &["node", "npm"],
    told: "needs Node (package.json)",
};

#[tokio::test]
async fn node_is_built_and_served() {
    let bench = Bench::new().await;
    let server = "import http from 'node:http';\nimport { line } from './dist/line.mjs';\nhttp.createServer((_, answer) => answer.end(line)).listen(process.env.PORT);\n";
    let package = r#"{
  "name": "shop", "version": "1.0.0", "type": "module",
  "scripts": { "build": "node build.mjs", "start": "node server.js" },
  "dependencies": { "greet": "file:lib/greet" },
  "devDependencies": { "only-to-build": "file:lib/only-to-build" }
}"#;
    let lock = r#"{
  "name": "shop", "version": "1.0.0", "lockfileVersion": 3, "requires": true,
  "packages": {
    "": {
      "name": "shop", "version": "1.0.0",
      "dependencies": { "greet": "file:lib/greet" },
      "devDependencies": { "only-to-build": "file:lib/only-to-build" }
    },
    "lib/greet": { "version": "1.0.0" },
    "lib/only-to-build": { "version": "1.0.0", "dev": true },
    "node_modules/greet": { "resolved": "lib/greet", "link": true },
    "node_modules/only-to-build": { "resolved": "lib/only-to-build", "link": true }
  }
}"#;
    let build = "import fs from 'node:fs';\nimport { word } from 'greet';\nimport { from } from 'only-to-build';\nfs.mkdirSync('dist');\nfs.writeFileSync('dist/line.mjs', `export const line = ${JSON.stringify(`${word} ${from}`)};\\n`);\n";
    let files = [
        ("package.json", package),
        ("package-lock.json", lock),
        ("server.js", server),
        ("build.mjs", build),
        (
            "lib/greet/package.json",
            r#"{"name":"greet","version":"1.0.0","type":"module","exports":"./index.js"}"#,
        ),
        ("lib/greet/index.js", "export const word = 'hello';\n"),
        (
            "lib/only-to-build/package.json",
            r#"{"name":"only-to-build","version":"1.0.0","type":"module","exports":"./index.js"}"#,
        ),
        (
            "lib/only-to-build/index.js",
            "export const from = 'from node';\n",
        ),
    ];
    let source = bench.upload(&files).await;
    check(
        bench,
        &NODE,
        source,
        "node, package shop 1.0.0",
        "hello from node",
    )
    .await;
}

#[tokio::test]
async fn a_node_package_that_only_builds_is_served_as_a_site() {
    let bench = Bench::new().await;
    if lacks(&[], NODE.programs).is_some() {
        eprintln!("!!! NOT TESTED, FOR THIS MACHINE HAS NO Node");
        return;
    }
    let build = "const fs = require('node:fs'); fs.mkdirSync('dist'); fs.writeFileSync('dist/index.html', 'a single page');";
    let files = [
        ("package.json", r#"{"scripts":{"build":"node make.js"}}"#),
        ("make.js", build),
    ];
    let built = bench.build("spa", &files).await.unwrap();
    assert_eq!(built.stack, None);
    assert!(bench.serve(&built, "/").await.ends_with("a single page"));
    let error = bench
        .build(
            "spa",
            &[("package.json", r#"{"scripts":{"build":"true"}}"#)],
        )
        .await
        .unwrap_err();
    assert!(error.message().contains("left no index.html"), "{error}");
}

const PYTHON: Language = Language {
    programs: &["python3", "pip3"],
    told: "needs Python (requirements.txt)",
};

#[tokio::test]
async fn python_is_built_and_served() {
    let bench = Bench::new().await;
    let app = r#"import http.server
import os

import greet


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(greet.line().encode())


http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;
    let folder = TempDir::new().unwrap();
    let wheel = "greet-1.0-py3-none-any.whl";
    crate::archive::write(
        folder.path(),
        &[
            ("app.py", app),
            ("requirements.txt", &format!("./{wheel}\n")),
        ],
    );
    write_wheel(&folder.path().join(wheel));
    let source = bench.upload_folder(folder.path()).await;
    check(bench, &PYTHON, source, "python", "hello from python").await;
}

/// Writes a wheel with a module and a program, without any tool: a zip of uncompressed files.
fn write_wheel(path: &Path) {
    let files = [
        (
            "greet/__init__.py",
            "NAMES = {'python', 'snake', 'spam'}\n\n\ndef line():\n    return 'hello from ' + min(NAMES)\n\n\ndef main():\n    print(line())\n",
        ),
        (
            "greet-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n",
        ),
        (
            "greet-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (
            "greet-1.0.dist-info/entry_points.txt",
            "[console_scripts]\ngreet = greet:main\n",
        ),
        (
            "greet-1.0.dist-info/RECORD",
            "greet/__init__.py,,\ngreet-1.0.dist-info/METADATA,,\ngreet-1.0.dist-info/WHEEL,,\ngreet-1.0.dist-info/entry_points.txt,,\ngreet-1.0.dist-info/RECORD,,\n",
        ),
    ];
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let offset = u32::try_from(zip.len()).unwrap();
        let size = u32::try_from(content.len()).unwrap();
        let name_size = u16::try_from(name.len()).unwrap();
        let mut common = Vec::new();
        // Version 2.0, no flags, stored, 1980-01-01.
        common.extend([20_u16, 0, 0, 0, 0x21].map(u16::to_le_bytes).concat());
        common.extend(
            [crc32(content.as_bytes()), size, size]
                .map(u32::to_le_bytes)
                .concat(),
        );
        common.extend([name_size, 0].map(u16::to_le_bytes).concat());
        zip.extend(b"PK\x03\x04");
        zip.extend(&common);
        zip.extend(name.as_bytes());
        zip.extend(content.as_bytes());
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 6]);
        directory.extend((0o100_644_u32 << 16).to_le_bytes());
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, size) = (
        u32::try_from(zip.len()).unwrap(),
        u32::try_from(directory.len()).unwrap(),
    );
    zip.extend(directory);
    zip.extend(b"PK\x05\x06");
    zip.extend([0, 0, 5_u16, 5].map(u16::to_le_bytes).concat());
    zip.extend([size, start].map(u32::to_le_bytes).concat());
    zip.extend([0; 2]);
    fs::write(path, zip).unwrap();
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            (crc >> 1) ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

const RUST: Language = Language {
    programs: &["cargo", "cc"],
    told: "needs Rust (Cargo.toml)",
};

#[tokio::test]
async fn rust_is_built_and_served() {
    let mut bench = Bench::new().await;
    bench.config.toolchains = toolchain_of_rust().into_iter().collect();
    let main = r#"use std::{io::{Read, Write}, net::TcpListener};

fn main() {
    let port = std::env::var("PORT").unwrap();
    for stream in TcpListener::bind(format!("0.0.0.0:{port}")).unwrap().incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello from rust");
    }
}
"#;
    let toml = "[package]\nname = \"hello\"\nversion = \"1.0.0\"\nedition = \"2021\"\n";
    let lock = "version = 3\n\n[[package]]\nname = \"hello\"\nversion = \"1.0.0\"\n";
    let files = [
        ("Cargo.toml", toml),
        ("Cargo.lock", lock),
        ("src/main.rs", main),
        ("src/bin/aid.rs", "fn main() {}"),
    ];
    let source = bench.upload(&files).await;
    check(
        bench,
        &RUST,
        source,
        "rust, package hello",
        "hello from rust",
    )
    .await;
}

/// Where the compiler of these tests is, unless it is seen anyway.
fn toolchain_of_rust() -> Option<PathBuf> {
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let sysroot = fs::canonicalize(sysroot).ok()?;
    (!sysroot.starts_with("/usr")).then_some(sysroot)
}

#[tokio::test]
async fn a_missing_toolchain_is_named_with_what_asks_for_it() {
    let bench = Bench::new().await;
    // No machine has all of these.
    let cases = [
        (
            [
                ("go.mod", "module example.com/x\n\ngo 1.22\n"),
                ("main.go", "package main\n"),
            ],
            "go",
            "Go (go.mod says 1.22)",
        ),
        (
            [
                ("Cargo.toml", "[package]\nname = 'x'\nrust-version = '1.80'"),
                ("src/main.rs", ""),
            ],
            "cargo",
            "Rust (Cargo.toml says 1.80)",
        ),
    ];
    let mut told = 0;
    for (files, program, shown) in cases {
        if lacks(&[], &[program]).is_some() {
            let error = bench.build("x", &files).await.unwrap_err();
            assert!(
                error.message().contains(&format!(
                    "needs {shown}, which the stack `host` does not have"
                )),
                "{error}"
            );
            told += 1;
        }
    }
    if told == 0 {
        eprintln!("!!! NOT TESTED, FOR THIS MACHINE HAS EVERY TOOLCHAIN");
    }
}

#[tokio::test]
async fn a_procfile_names_processes_of_any_kind() {
    let bench = Bench::new().await;
    let files = [
        ("Procfile", "web: exec sh serve.sh\nworker: sh work.sh\n"),
        ("serve.sh", ""),
        ("work.sh", ""),
    ];
    let built = bench.build("app", &files).await.unwrap();
    assert_eq!(built.processes.len(), 2);
    let config = bench.config_of(&built).await;
    assert_eq!(
        config["config"]["Cmd"],
        serde_json::json!(["/bin/sh", "-c", "exec sh serve.sh"])
    );
    assert_eq!(config["config"]["WorkingDir"], "/app");
    assert_eq!(config["config"]["Labels"]["dev.tappaas.stack"], "host");
    assert!(
        config["config"]["Labels"]["dev.tappaas.processes"]
            .as_str()
            .unwrap()
            .contains("work.sh")
    );
}
