use std::{
    collections::HashMap,
    fs::File,
    hash::{DefaultHasher, Hasher as _},
    io::Read as _,
    path::{Component, Path, PathBuf},
    sync::Mutex,
    time::UNIX_EPOCH,
};

use crate::{
    request::{Range, Request},
    response::{Body, Response},
    text,
};

/// Larger files have no tag: hashing them would hold up their first request.
const TAGGED_BYTES_MAX: u64 = 256 << 20;
const TAGS_MAX: usize = 10_000;

/// The folder that is served.
pub(crate) struct Site {
    root: PathBuf,
    tags: Mutex<HashMap<PathBuf, String>>,
}

impl Site {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            tags: Mutex::default(),
        }
    }

    pub(crate) fn respond(&self, request: &Request) -> Response {
        if !request.method_allowed {
            let mut response = Response::plain(405);
            response.header("Allow", "GET, HEAD");
            return response;
        }
        let Some(parts) = request.path_parts() else {
            return Response::plain(400);
        };
        match self.find(&parts, request.folder) {
            Found::File(path) => self.file(request, &path, 200),
            Found::Folder => {
                let mut response = Response::plain(301);
                response.header("Location", &request.location(&parts));
                response
            }
            Found::Nothing => match self.inside(&self.root.join("404.html")) {
                Some(path) if path.is_file() => self.file(request, &path, 404),
                _ => Response::plain(404),
            },
        }
    }

    fn find(&self, parts: &[String], folder: bool) -> Found {
        let hidden = |part: &String| part.starts_with('.') && part != ".well-known";
        if parts.iter().any(hidden) {
            return Found::Nothing;
        }
        let mut path = self.root.clone();
        path.extend(parts);
        let Some(path) = self.inside(&path) else {
            return Found::Nothing;
        };
        match (path.is_dir(), folder) {
            (false, false) if path.is_file() => Found::File(path),
            (true, false) => Found::Folder,
            (true, true) => match self.inside(&path.join("index.html")) {
                Some(index) if index.is_file() => Found::File(index),
                _ => Found::Nothing,
            },
            _ => Found::Nothing,
        }
    }

    /// Follows symbolic links, and takes nothing that lies outside of the folder or is hidden in it.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let path = path.canonicalize().ok()?;
        let relative = path.strip_prefix(&self.root).ok()?;
        let shown = |part: Component<'_>| match part {
            Component::Normal(name) => {
                name == ".well-known" || !name.as_encoded_bytes().starts_with(b".")
            }
            _ => false,
        };
        relative.components().all(shown).then_some(path)
    }

    fn file(&self, request: &Request, path: &Path, status: u16) -> Response {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let Ok((metadata, file)) = opened else {
            return Response::plain(404);
        };
        let size = metadata.len();
        let mut response = Response::new(status);
        response.header("Content-Type", text::content_type(path));
        response.header("Cache-Control", "no-cache");
        let tag = self.tag(path, size);
        if let Some(tag) = &tag {
            response.header("ETag", tag);
        }
        // In an image every file is of 1970: that would make every later content look unchanged.
        let modified = metadata.modified().ok().filter(|time| *time > UNIX_EPOCH);
        let modified = modified.map(text::http_date);
        if let Some(modified) = &modified {
            response.header("Last-Modified", modified);
        }
        if status == 200 && request.unchanged(tag.as_deref(), modified.as_deref()) {
            response.status = 304;
            return response;
        }
        let ranged = status == 200 && request.range_applies(tag.as_deref());
        response.body = Body::File(file, 0, size);
        if status == 200 {
            response.header("Accept-Ranges", "bytes");
        }
        match request
            .range
            .as_deref()
            .filter(|_| ranged)
            .map(|range| Range::parse(range, size))
        {
            Some(Range::Part(start, end)) => response.limit_to(start, end, size),
            Some(Range::Unsatisfiable) => {
                let mut response = Response::plain(416);
                response.header("Content-Range", &format!("bytes */{size}"));
                return response;
            }
            Some(Range::Ignored) | None => {}
        }
        response
    }

    /// The entity tag of a file: a hash of its content, taken once.
    fn tag(&self, path: &Path, size: u64) -> Option<String> {
        if size > TAGGED_BYTES_MAX {
            return None;
        }
        let known = |tags: &HashMap<PathBuf, String>| tags.get(path).cloned();
        if let Some(tag) = self.tags.lock().ok().as_deref().and_then(known) {
            return Some(tag);
        }
        let mut hasher = DefaultHasher::new();
        let mut file = File::open(path).ok()?;
        let mut buffer = [0; 16 << 10];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                read => hasher.write(&buffer[..read]),
            }
        }
        let tag = format!("\"{size:x}-{:016x}\"", hasher.finish());
        if let Ok(mut tags) = self.tags.lock()
            && tags.len() < TAGS_MAX
        {
            tags.insert(path.to_owned(), tag.clone());
        }
        Some(tag)
    }
}

enum Found {
    File(PathBuf),
    /// A folder that was asked for without the slash at its end.
    Folder,
    Nothing,
}
