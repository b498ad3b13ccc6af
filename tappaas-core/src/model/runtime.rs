use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// On what kind of machine a process runs. Which machines those are, whoever runs the platform says.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Any.
    #[default]
    Standard,
    /// One with more power than others.
    HighPerformance,
    /// One with a graphics processor, of which an instance gets what whoever runs the platform says.
    Gpu,
    /// One near to users.
    Edge,
}

impl Runtime {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Standard, Self::HighPerformance, Self::Gpu, Self::Edge];

    /// Says whether any machine will do.
    pub fn is_standard(&self) -> bool {
        *self == Self::Standard
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::HighPerformance => "high-performance",
            Self::Gpu => "gpu",
            Self::Edge => "edge",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Runtime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            Error::invalid(format!(
                "there is no runtime `{}`; there is {known}",
                text.escape_default()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_written_in_one_way() {
        for runtime in Runtime::ALL {
            let json = serde_json::to_value(runtime).unwrap();
            assert_eq!(json.as_str(), Some(runtime.as_str()));
            assert_eq!(runtime.to_string().parse::<Runtime>().unwrap(), runtime);
        }
        let refused = "GPU".parse::<Runtime>().unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("standard, high-performance, gpu, edge")
        );
    }
}
