use std::fs::{self, File};
use std::io::Write;

use super::figure::median;
use crate::Result;
use crate::report::now;
use crate::scratch::Scratch;

/// As many as show the usual case, and few enough for a slow disk.
const SYNCS: usize = 100;

/// What figures depend on and a reader has to know.
pub(super) struct Facts {
    cores: usize,
    processor: String,
    kernel: String,
    memory_gib: u64,
    /// How long a small append and its `fdatasync` take: the median, in milliseconds.
    pub(super) sync_ms: f64,
    /// How many processes wanted to run at the same time, over the last minute.
    load: f64,
}

impl Facts {
    pub(super) fn look() -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib = field(&memory, "MemTotal").and_then(|text| text.split(' ').next()?.parse().ok());
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            processor: field(&processors, "model name").unwrap_or("?").to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            memory_gib: kib.map_or(0, |kib: u64| kib >> 20),
            sync_ms: sync_ms()?,
            load: first_number(&fs::read_to_string("/proc/loadavg")?),
        })
    }

    /// These facts at the beginning of a run and those at its end.
    pub(super) fn and_later(self, later: &Self) -> Self {
        Self {
            sync_ms: f64::midpoint(self.sync_ms, later.sync_ms),
            ..self
        }
    }

    pub(super) fn line(&self) -> String {
        format!(
            "{} cores ({}), {} GiB, Linux {}, append and fdatasync {:.2} ms, load before the run {:.1}",
            self.cores, self.processor, self.memory_gib, self.kernel, self.sync_ms, self.load
        )
    }
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.trim_start().strip_prefix(':');
    text.lines().find_map(value).map(str::trim)
}

fn first_number(text: &str) -> f64 {
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}

fn sync_ms() -> Result<f64> {
    let scratch = Scratch::new("sync")?;
    let mut file = File::create(scratch.path.join("file"))?;
    let mut samples = Vec::new();
    for _ in 0..SYNCS {
        let started = now();
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        samples.push(started.elapsed().as_secs_f64() * 1e3);
    }
    scratch.remove()?;
    median(&samples).ok_or_else(|| "nothing was measured".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:       24 kB\nmodel name\t: Good One\n";
        assert_eq!(field(text, "MemTotal"), Some("24 kB"));
        assert_eq!(field(text, "model name"), Some("Good One"));
        assert_eq!(field(text, "absent"), None);
    }

    #[test]
    fn the_load_is_the_first_number() {
        assert!((first_number("1.25 0.9 0.8 1/2 3") - 1.25).abs() < f64::EPSILON);
    }
}
