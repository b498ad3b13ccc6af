//! In what two releases differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use tappaas_core::{Error, Result, model::ReleaseSpec};

use crate::types::{Change, Difference, Source};

/// The parts whose values may be secret.
const SECRET: &[&str] = &["environment.", "overrides.", "config."];

/// Compares what two releases are made of, in order of the paths. Values that may be secret are left out unless they are to be revealed.
pub(crate) fn differences(
    before: &ReleaseSpec,
    after: &ReleaseSpec,
    reveal: bool,
) -> Result<Vec<Difference>> {
    let (mut before, mut after) = (parts(before)?, parts(after)?);
    let paths: BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
    let difference = |path: String| {
        let (before, after) = (before.remove(&path), after.remove(&path));
        let change = match (&before, &after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(before), Some(after)) if before == after => return None,
            (Some(_), Some(_)) => Change::Changed,
        };
        let masked = !reveal && SECRET.iter().any(|part| path.starts_with(part));
        Some(Difference {
            path,
            before: before.filter(|_| !masked),
            after: after.filter(|_| !masked),
            change,
            masked,
        })
    };
    Ok(paths.into_iter().filter_map(difference).collect())
}

/// Everything that a release is made of, as text by path.
fn parts(release: &ReleaseSpec) -> Result<BTreeMap<String, String>> {
    let json = |error| Error::internal("a release has no JSON form").with_source(error);
    let content = &release.content;
    let mut whole = serde_json::to_value(content).map_err(json)?;
    whole["image"] = json!(release.image.to_string());
    whole["source"] = serde_json::to_value(Source::from(&content.source)).map_err(json)?;
    whole["detected"] = serde_json::to_value(&release.detected).map_err(json)?;
    let mut parts = BTreeMap::new();
    if let Value::Object(fields) = whole {
        flatten("", fields, &mut parts);
    }
    Ok(parts)
}

fn flatten(prefix: &str, fields: Map<String, Value>, parts: &mut BTreeMap<String, String>) {
    for (name, value) in fields {
        let path = format!("{prefix}{name}");
        match value {
            Value::Null => {}
            Value::Object(fields) => flatten(&format!("{path}."), fields, parts),
            Value::String(text) => drop(parts.insert(path, text)),
            other => drop(parts.insert(path, other.to_string())),
        }
    }
}
