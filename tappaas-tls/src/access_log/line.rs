/// One JSON object, written field by field into a buffer. Plain code instead of `core::fmt`, as it is run for every request.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    out: &'a mut Vec<u8>,
    fields: bool,
}

impl<'a> Line<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, fields: false }
    }

    pub(super) fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }

    /// A time: the second as text, and the milliseconds.
    pub(super) fn time(&mut self, key: &str, second: &str, millisecond: i32) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(second.as_bytes());
        self.thousandths(millisecond.unsigned_abs());
        self.out.extend_from_slice(b"Z\"");
    }

    /// Text, whatever the bytes.
    pub(crate) fn text(&mut self, key: &str, value: &[u8]) {
        self.key(key);
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\';
        if value.iter().all(plain) {
            self.out.push(b'"');
            self.out.extend_from_slice(value);
            self.out.push(b'"');
        } else {
            let text = serde_json::Value::from(String::from_utf8_lossy(value));
            self.out.extend_from_slice(text.to_string().as_bytes());
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        self.digits(value);
    }

    pub(crate) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out
            .extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Microseconds, in milliseconds.
    pub(crate) fn milliseconds(&mut self, key: &str, us: u64) {
        self.key(key);
        self.digits(us / 1_000);
        self.thousandths((us % 1_000) as u32);
    }

    fn key(&mut self, key: &str) {
        if std::mem::replace(&mut self.fields, true) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn digits(&mut self, mut value: u64) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
    }

    fn thousandths(&mut self, value: u32) {
        let digit = |place: u32| b'0' + (value / place % 10) as u8;
        self.out
            .extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_line_is_json(bytes in prop::collection::vec(any::<u8>(), 0..20), number: u64, flag: bool, us: u64) {
            let mut out = Vec::new();
            let mut line = Line::begin(&mut out);
            line.time("time", "2026-01-02T03:04:05", 7);
            line.text("text", &bytes);
            line.number("number", number);
            line.flag("flag", flag);
            line.milliseconds("ms", us);
            line.end();
            prop_assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(&read["time"], "2026-01-02T03:04:05.007Z");
            prop_assert_eq!(read["text"].as_str().unwrap(), String::from_utf8_lossy(&bytes));
            prop_assert_eq!(read["number"].as_u64().unwrap(), number);
            prop_assert_eq!(read["flag"].as_bool().unwrap(), flag);
            let text = String::from_utf8(out.clone()).unwrap();
            let ms = format!("\"ms\":{}.{:03}", us / 1_000, us % 1_000);
            prop_assert!(text.contains(&ms), "{} is not in {}", ms, text);
        }
    }
}
