//! The file server, as a plain process.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::symlink,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

use super::bench::Bench;

/// A running file server, and the folder it serves.
struct Server {
    folder: TempDir,
    child: Child,
    port: u16,
}

impl Server {
    /// Starts the server out of an image that was built from these files.
    async fn start(files: &[(&str, &str)]) -> Self {
        let bench = Bench::new().await;
        let files: Vec<_> = [("index.html", "top")]
            .into_iter()
            .chain(files.iter().copied())
            .collect();
        let built = bench.build("site", &files).await.unwrap();
        Self::of(bench.layer_of(&built).await)
    }

    fn of(folder: TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let site = folder.path().join("app");
        let child = Command::new(site.join(".tappaas/fileserver"))
            .arg(&site)
            .env_clear()
            .env("PORT", port.to_string())
            .stderr(Stdio::null())
            .spawn();
        let server = Self {
            folder,
            child: child.unwrap(),
            port,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the file server does not listen");
            std::thread::yield_now();
        }
        server
    }

    fn site(&self) -> std::path::PathBuf {
        self.folder.path().join("app")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Sends bytes and returns everything that comes back until the server closes.
    fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn get(&self, path: &str, headers: &str) -> String {
        self.exchange(&format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"
        ))
    }

    fn status(&self, path: &str) -> String {
        self.get(path, "")[9..12].to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn files_have_their_type_and_folders_their_index() {
    let server = Server::start(&[
        ("a/index.html", "below"),
        ("b/x", ""),
        ("app.js", "1"),
        ("data.JSON", "{}"),
        ("with space/é.svg", "<svg/>"),
    ])
    .await;
    for (path, kind, content) in [
        ("/", "text/html; charset=utf-8", "top"),
        ("/index.html?v=1", "text/html; charset=utf-8", "top"),
        ("/a/", "text/html; charset=utf-8", "below"),
        ("/app.js", "text/javascript; charset=utf-8", "1"),
        ("/data.JSON", "application/json", "{}"),
        ("/b/x", "application/octet-stream", ""),
        ("/with%20space/%C3%A9.svg", "image/svg+xml", "<svg/>"),
        ("http://host/app.js", "text/javascript; charset=utf-8", "1"),
    ] {
        let answer = server.get(path, "");
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n"),
            "{path}: {answer}"
        );
        assert_eq!(
            (header(&answer, "Content-Type"), body(&answer)),
            (Some(kind), content),
            "{path}"
        );
    }
    let moved = server.get("/a?q=1", "");
    assert_eq!(
        (&moved[9..12], header(&moved, "Location")),
        ("301", Some("/a/?q=1"))
    );
    let moved = server.get("//with%20space", "");
    assert_eq!(header(&moved, "Location"), Some("/with%20space/"));
    assert_eq!(server.status("/b/"), "404");
    assert_eq!(server.status("/app.js/"), "404");
}

#[tokio::test]
async fn nothing_outside_of_the_site_or_hidden_in_it_is_served() {
    let server = Server::start(&[
        (".env", "SECRET"),
        (".well-known/acme", "token"),
        ("sub/.git/config", "SECRET"),
        ("404.html", "<p>lost</p>"),
    ])
    .await;
    fs::write(server.folder.path().join("outside"), "SECRET").unwrap();
    symlink("../outside", server.site().join("out")).unwrap();
    symlink("..", server.site().join("up")).unwrap();
    symlink(".env", server.site().join("shown")).unwrap();
    symlink("index.html", server.site().join("alias.html")).unwrap();
    for path in [
        "/../outside",
        "/%2e%2e/outside",
        "/..%2foutside",
        "/%2e%2e%2foutside",
        "/sub/../../outside",
        "/out",
        "/up/outside",
        "/.env",
        "/%2eenv",
        "/shown",
        "/sub/.git/config",
        "/.tappaas/fileserver",
        "/index.html%00",
        "/%zz",
        "/%",
        "/%ff",
        "/./.env",
        "//.env",
    ] {
        let answer = server.get(path, "");
        assert!(!answer.contains("SECRET"), "{path}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
    assert_eq!(body(&server.get("/alias.html", "")), "top");
    assert_eq!(body(&server.get("/.well-known/acme", "")), "token");
    let lost = server.get("/nowhere", "");
    assert_eq!(
        (&lost[9..12], header(&lost, "Content-Type"), body(&lost)),
        ("404", Some("text/html; charset=utf-8"), "<p>lost</p>")
    );
}

#[tokio::test]
async fn unchanged_content_is_told_and_changed_content_never_taken_for_unchanged() {
    let server = Server::start(&[("a.txt", "one"), ("b.txt", "two")]).await;
    let answer = server.get("/a.txt", "");
    let tag = header(&answer, "ETag").unwrap().to_owned();
    // Every file of an image is of 1970.
    assert_eq!(header(&answer, "Last-Modified"), None);
    for headers in [
        format!("If-None-Match: {tag}\r\n"),
        format!("If-None-Match: \"x\", W/{tag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
    ] {
        let answer = server.get("/a.txt", &headers);
        assert!(
            answer.starts_with("HTTP/1.1 304") && body(&answer).is_empty(),
            "{answer}"
        );
        assert_eq!(header(&answer, "ETag"), Some(tag.as_str()));
    }
    assert_eq!(
        body(&server.get("/b.txt", &format!("If-None-Match: {tag}\r\n"))),
        "two"
    );
    let epoch = "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
    assert_eq!(body(&server.get("/a.txt", epoch)), "one");
    let file = fs::File::options()
        .write(true)
        .open(server.site().join("b.txt"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777))
        .unwrap();
    let dated = server.get("/b.txt", "");
    assert_eq!(
        header(&dated, "Last-Modified"),
        Some("Sun, 06 Nov 1994 08:49:37 GMT")
    );
    let same = server.get(
        "/b.txt",
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    );
    assert!(same.starts_with("HTTP/1.1 304"), "{same}");
    let unlike = server.get(
        "/b.txt",
        "If-None-Match: \"x\"\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    );
    assert_eq!(body(&unlike), "two");
}

#[tokio::test]
async fn parts_of_a_file_can_be_asked_for() {
    let large = "0123456789".repeat(20_000);
    let server = Server::start(&[("a", "0123456789"), ("empty", ""), ("large", &large)]).await;
    for (range, part, content) in [
        ("bytes=0-3", "bytes 0-3/10", "0123"),
        ("bytes=7-", "bytes 7-9/10", "789"),
        ("bytes=-2", "bytes 8-9/10", "89"),
        ("bytes=5-999", "bytes 5-9/10", "56789"),
        ("bytes=-999", "bytes 0-9/10", "0123456789"),
    ] {
        let answer = server.get("/a", &format!("Range: {range}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 206"), "{range}: {answer}");
        assert_eq!(
            (header(&answer, "Content-Range"), body(&answer)),
            (Some(part), content)
        );
    }
    for range in ["bytes=10-", "bytes=-0", "bytes=99-100"] {
        let answer = server.get("/a", &format!("Range: {range}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 416"), "{range}: {answer}");
        assert_eq!(header(&answer, "Content-Range"), Some("bytes */10"));
    }
    for range in [
        "bytes=3-1",
        "bytes=a-b",
        "bytes=0-1,4-5",
        "lines=0-1",
        "bytes=--1",
        "bytes=+1-2",
    ] {
        let answer = server.get("/a", &format!("Range: {range}\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{range}: {answer}");
    }
    assert!(
        server
            .get("/empty", "Range: bytes=0-\r\n")
            .starts_with("HTTP/1.1 416")
    );
    assert_eq!(body(&server.get("/large", "")), large);
    assert_eq!(
        body(&server.get("/large", "Range: bytes=100000-199999\r\n")),
        &large[100_000..]
    );
    let other = server.get("/a", "Range: bytes=0-3\r\nIf-Range: \"other\"\r\n");
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
}

#[tokio::test]
async fn connections_are_kept_and_requests_answered_in_order() {
    let server = Server::start(&[("a", "A"), ("b", "B")]).await;
    let three = "GET /a HTTP/1.1\r\nHost: x\r\n\r\nHEAD /b HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = server.exchange(three);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{answers}");
    assert_eq!(
        answers.matches("Content-Length: 1\r\n").count(),
        3,
        "{answers}"
    );
    assert!(
        answers.contains("\r\n\r\nAHTTP/1.1")
            && answers.contains("\r\n\r\nHTTP/1.1 200")
            && answers.ends_with("\r\n\r\nB"),
        "{answers}"
    );
    assert!(
        server
            .exchange("GET /a HTTP/1.0\r\n\r\n")
            .ends_with("\r\n\r\nA")
    );
}

#[tokio::test]
async fn malformed_and_foreign_requests_are_refused_and_harm_nobody() {
    let server = Server::start(&[]).await;
    let smuggled = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\nGET /index.html HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = server.exchange(smuggled);
    assert_eq!(
        (&answer[9..12], answer.matches("HTTP/1.1").count()),
        ("405", 1),
        "{answer}"
    );
    assert_eq!(header(&answer, "Allow"), Some("GET, HEAD"));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000));
    for (request, status) in [
        ("GET\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
        ("GET  / HTTP/1.1\r\n\r\n", "400"),
        (
            "GET index.html HTTP/1.1\r\nConnection: close\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/2.0\r\n\r\n", "505"),
        ("\x16\x03\x01\x02\r\n\r\n", "400"),
        (&long, "431"),
    ] {
        assert_eq!(
            server.exchange(request).get(9..12),
            Some(status),
            "{request:.60}"
        );
    }
    assert_eq!(server.status("/"), "200");
}

#[tokio::test]
async fn more_clients_than_connections_are_all_answered() {
    let server = Server::start(&[]).await;
    let idle: Vec<_> = (0..300).map(|_| server.connect()).collect();
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(server.status("/"), "200"));
        }
    });
    drop(idle);
}

#[tokio::test]
async fn it_says_what_it_cannot_do() {
    let server = Server::start(&[]).await;
    let run = |folder: &str, port: &str| {
        let program = server.site().join(".tappaas/fileserver");
        let output = Command::new(program)
            .arg(folder)
            .env_clear()
            .env("PORT", port)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let site = server.site();
    let site = site.to_str().unwrap();
    assert!(run("/no/such/folder", "1").contains("cannot open /no/such/folder"));
    assert!(run(site, "http").contains("PORT is `http`"));
    assert!(run(site, &server.port.to_string()).contains("cannot listen on port"));
}
