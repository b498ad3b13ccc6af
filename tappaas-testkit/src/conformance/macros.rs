/// Returns from a case with a message unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+).into());
        }
    };
}

pub(crate) use ensure;

/// Makes a test of each case of a suite. For the macros of the suites only.
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_tests {
    ($suite:ident, $test:meta, $fixture:expr, $($case:ident)*) => {$(
        #[$test]
        async fn $case() {
            let fixture = $fixture;
            $crate::conformance::$suite::$case(&fixture).await.unwrap();
        }
    )*};
}
