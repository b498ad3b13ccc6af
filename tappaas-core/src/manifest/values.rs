//! The values that a manifest writes in its own way: spans of time, sizes, cores, commands.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::model::{Command, EnvValue};

/// A span of time in whole seconds, written `"30s"`, `"5m"` or `"1h30m"`; at most 24 hours.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Seconds(pub u32);

impl Seconds {
    /// The longest span.
    pub const MAX: Self = Self(24 * 60 * 60);

    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut seconds = 0_u32;
        for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
            if let Some((digits, after)) = rest.split_once(unit) {
                seconds = seconds.checked_add(digits_of(digits)?.checked_mul(length)?)?;
                rest = after;
            }
        }
        (rest.is_empty() && !text.is_empty() && seconds <= Self::MAX.0).then_some(Self(seconds))
    }
}

/// A number of bytes: an integer, or `"256M"`, `"1Gi"`. `k`, `M`, `G`, `T` count in thousands, `Ki`, `Mi`, `Gi`, `Ti` in 1024s. At least 1 MiB.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The least amount: a smaller one is a number whose unit was forgotten.
    pub const MIN: Self = Self(1 << 20);

    fn parse(text: &str) -> Option<Self> {
        let unit = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(unit);
        let factor: u64 = match unit {
            "" => 1,
            "k" => 1000,
            "M" => 1000_u64.pow(2),
            "G" => 1000_u64.pow(3),
            "T" => 1000_u64.pow(4),
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            "Ti" => 1 << 40,
            _ => return None,
        };
        Some(Self(u64::from(digits_of(digits)?).checked_mul(factor)?))
    }

    fn checked<E: de::Error>(self) -> Result<Self, E> {
        if self < Self::MIN {
            return Err(E::custom(format_args!(
                "{} bytes are too few: the least is `\"1Mi\"`; is the unit missing, as in `\"256M\"`?",
                self.0
            )));
        }
        Ok(self)
    }
}

/// A share of the CPU in thousandths of a core: a number of cores such as `0.5`, or `"500m"`. At most 1024 cores.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Cpu(pub u32);

impl Cpu {
    const MAX: u32 = 1024 * 1000;

    fn checked<E: de::Error>(millis: Option<u32>) -> Result<Self, E> {
        match millis {
            Some(millis @ 1..=Self::MAX) => Ok(Self(millis)),
            _ => Err(E::custom(
                "the CPU share must be from `\"1m\"` (a thousandth of a core) to 1024 cores",
            )),
        }
    }
}

/// What to run: a string is a line for the shell inside the sandbox, an array is a program and its arguments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandLine(pub Command);

/// The value of an environment variable: a string, an integer or a boolean.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Variable(pub EnvValue);

/// Digits alone; no sign, no blank.
fn digits_of(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

struct SecondsVisitor;

impl Visitor<'_> for SecondsVisitor {
    type Value = Seconds;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a span of time of at most 24 hours, such as \"30s\", \"5m\" or \"1h30m\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Seconds, E> {
        Seconds::parse(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecondsVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size, such as \"256M\", \"1Gi\" or a number of bytes")
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
        let bytes = u64::try_from(bytes)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))?;
        Bytes(bytes).checked()
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        Bytes::parse(text)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?
            .checked()
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct CpuVisitor;

impl Visitor<'_> for CpuVisitor {
    type Value = Cpu;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of cores such as 0.5, or thousandths such as \"500m\"")
    }

    fn visit_i64<E: de::Error>(self, cores: i64) -> Result<Cpu, E> {
        Cpu::checked(
            u32::try_from(cores)
                .ok()
                .and_then(|cores| cores.checked_mul(1000)),
        )
    }

    fn visit_f64<E: de::Error>(self, cores: f64) -> Result<Cpu, E> {
        // What is not a number, negative or too much saturates to a value that is refused.
        Cpu::checked(Some((cores * 1000.0).round() as u32))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Cpu, E> {
        let millis = text.strip_suffix('m').and_then(digits_of);
        let millis = millis.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Cpu::checked(Some(millis))
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CpuVisitor)
    }
}

struct CommandVisitor;

impl<'de> Visitor<'de> for CommandVisitor {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a command: a string for the shell, or an array of a program and its arguments")
    }

    fn visit_str<E: de::Error>(self, line: &str) -> Result<CommandLine, E> {
        if line.trim().is_empty() {
            return Err(E::custom("the command is empty"));
        }
        Ok(CommandLine(Command::Shell(line.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<CommandLine, A::Error> {
        let mut argv = Vec::new();
        while let Some(word) = words.next_element::<String>()? {
            argv.push(word);
        }
        if argv.first().is_none_or(String::is_empty) {
            return Err(de::Error::custom("the command names no program"));
        }
        Ok(CommandLine(Command::Exec(argv)))
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommandVisitor)
    }
}

struct VariableVisitor;

impl Visitor<'_> for VariableVisitor {
    type Value = Variable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, an integer or a boolean")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Variable, E> {
        Ok(Variable(EnvValue::new(value.to_string())))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Variable, E> {
        Ok(Variable(EnvValue::new(value.to_string())))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Variable, E> {
        if value.contains('\0') {
            return Err(E::custom(
                "an environment variable cannot hold a NUL character",
            ));
        }
        Ok(Variable(EnvValue::new(value)))
    }
}

impl<'de> Deserialize<'de> for Variable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(VariableVisitor)
    }
}

macro_rules! schemas {
    ($($type:ident: $schema:tt;)*) => {
        $(impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

schemas! {
    Bytes: {
        "description": "A size: a number of bytes, or with a unit. `k`, `M`, `G`, `T` count in thousands, `Ki`, `Mi`, `Gi`, `Ti` in 1024s.",
        "oneOf": [{ "type": "integer", "minimum": 1_048_576 }, { "type": "string", "pattern": "^[0-9]+([kMGT]|[KMGT]i)?$" }],
        "examples": ["256M", "1Gi"],
    };
    CommandLine: {
        "description": "What to run: a string is a line for the shell inside the sandbox, an array is a program and its arguments.",
        "oneOf": [
            { "type": "string", "pattern": "\\S" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ],
    };
    Cpu: {
        "description": "A share of the CPU: a number of cores, or thousandths of a core as in `500m`.",
        "oneOf": [{ "type": "number", "exclusiveMinimum": 0, "maximum": 1024 }, { "type": "string", "pattern": "^[0-9]+m$" }],
        "examples": [0.5, "500m"],
    };
    Seconds: {
        "type": "string",
        "description": "A span of time of at most 24 hours.",
        "pattern": "^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        "examples": ["30s", "5m", "1h30m"],
    };
    Variable: {
        "description": "The value of an environment variable.",
        "type": ["string", "integer", "boolean"],
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_whole_seconds() {
        for (text, seconds) in [
            ("0s", 0),
            ("30s", 30),
            ("5m", 300),
            ("1h30m", 5400),
            ("24h", 86400),
        ] {
            assert_eq!(Seconds::parse(text), Some(Seconds(seconds)), "{text}");
        }
        for bad in [
            "",
            "5",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "500ms",
            "5m1h",
            "1s1s",
            "25h",
            " 1s",
            "99999999999s",
        ] {
            assert_eq!(Seconds::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("1", 1),
            ("2k", 2000),
            ("1Ki", 1024),
            ("256M", 256_000_000),
            ("1Gi", 1 << 30),
        ] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
        }
        for bad in ["", "M", "1MB", "1 M", "-1M", "1.5G", "1mi", "99999999999T"] {
            assert_eq!(Bytes::parse(bad), None, "{bad}");
        }
    }
}
