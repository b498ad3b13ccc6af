use schemars::{Schema, generate::SchemaSettings, transform::transform_subschemas};
use serde_json::Value;

use super::Manifest;

impl Manifest {
    /// The JSON Schema of manifests, for editors.
    pub fn schema() -> Schema {
        let settings = SchemaSettings::draft2020_12().with_transform(without_null);
        settings.into_generator().into_root_schema_for::<Self>()
    }
}

/// TOML has no null: a key without a value is left out.
fn without_null(schema: &mut Schema) {
    transform_subschemas(&mut without_null, schema);
    let is_null = |value: &Value| value.as_str() == Some("null") || value["type"] == "null";
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
    for keyword in ["type", "anyOf"] {
        let Some(Value::Array(choices)) = schema.get_mut(keyword) else {
            continue;
        };
        choices.retain(|choice| !is_null(choice));
        if let [only] = choices.as_mut_slice() {
            let only = only.take();
            schema.remove(keyword);
            match only {
                Value::Object(inner) => schema.ensure_object().extend(inner),
                other => drop(schema.insert(keyword.to_owned(), other)),
            }
        }
    }
}
