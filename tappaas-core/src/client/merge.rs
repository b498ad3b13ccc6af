use serde_json::Value;

/// Applies the change from `old` to `new` to `raw`, so that what only `raw` has survives.
///
/// `old` and `new` are what this version of the types makes of an object before and after a change; `raw` is the object as stored, perhaps
/// written by a newer version with fields that these types do not know.
pub(super) fn merge(raw: &Value, old: &Value, new: &Value) -> Value {
    match (raw, old, new) {
        (Value::Object(raw), Value::Object(old), Value::Object(new)) => {
            let mut merged = raw.clone();
            merged.retain(|key, _| new.contains_key(key) || !old.contains_key(key));
            for (key, value) in new {
                let value = match (raw.get(key), old.get(key)) {
                    (Some(raw), Some(old)) => merge(raw, old, value),
                    _ => value.clone(),
                };
                merged.insert(key.clone(), value);
            }
            Value::Object(merged)
        }
        // Elements keep their unknown fields only while they keep their places.
        (Value::Array(raw), Value::Array(old), Value::Array(new))
            if raw.len() == old.len() && old.len() == new.len() =>
        {
            let elements = raw.iter().zip(old).zip(new);
            elements
                .map(|((raw, old), new)| merge(raw, old, new))
                .collect()
        }
        _ => new.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_survive_a_change() {
        let raw = json!({ "a": 1, "new": true, "inner": { "b": 2, "newer": [1] }, "list": [{ "c": 3, "newest": 4 }] });
        let old = json!({ "a": 1, "inner": { "b": 2 }, "list": [{ "c": 3 }] });
        let new = json!({ "inner": { "b": 5 }, "list": [{ "c": 6 }], "d": 7 });
        let merged = json!({ "new": true, "inner": { "b": 5, "newer": [1] }, "list": [{ "c": 6, "newest": 4 }], "d": 7 });
        assert_eq!(merge(&raw, &old, &new), merged);
    }

    #[test]
    fn a_field_that_is_removed_goes() {
        assert_eq!(
            merge(&json!({ "a": 1 }), &json!({ "a": 1 }), &json!({})),
            json!({})
        );
    }
}
