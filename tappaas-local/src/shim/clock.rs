use tappaas_core::Timestamp;

/// The wall-clock time.
#[expect(
    clippy::disallowed_methods,
    reason = "a shim is a process of its own, without anybody to inject a clock; its log and its exits need the real time"
)]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
