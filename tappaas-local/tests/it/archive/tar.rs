use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

/// A hand-made tar: every byte as the test says.
#[derive(Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    pub(super) fn add(mut self, kind: u8, name: &str, link: &str, content: &[u8]) -> Self {
        self.raw(kind, name, link, content, |_| {});
        self
    }

    pub(super) fn with(
        mut self,
        kind: u8,
        name: &str,
        content: &[u8],
        change: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        self.raw(kind, name, "", content, change);
        self
    }

    pub(super) fn raw(
        &mut self,
        kind: u8,
        name: &str,
        link: &str,
        content: &[u8],
        change: impl FnOnce(&mut [u8; 512]),
    ) {
        let mut header = ::tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_entry_type(::tar::EntryType::new(kind));
        let bytes = header.as_mut_bytes();
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[157..157 + link.len()].copy_from_slice(link.as_bytes());
        change(bytes);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(super) fn file(self, name: &str) -> Self {
        self.add(b'0', name, "", b"content")
    }

    pub(super) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut content = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length.to_string().len() + rest.len() != length {
                length += 1;
            }
            content += &format!("{length}{rest}");
        }
        self.add(b'x', "pax", "", content.as_bytes())
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        gzip(&self.0)
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
