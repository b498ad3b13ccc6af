use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube_core::schema::{OptionalEnum, StructuralSchemaRewriter};
use schemars::{
    Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Value, json};
use tappaas_core::{Kind, model::Spec};

/// The structural schema of a kind's objects.
pub(super) fn of<S: Spec>() -> JSONSchemaProps {
    let mut schema = json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": generator().into_root_schema_for::<S>(),
            // Written by the store alone, whoever sees it may ask what it means.
            "status": generator().into_root_schema_for::<S::Status>(),
        },
    });
    if let Some(rule) = naming(S::KIND) {
        schema["x-kubernetes-validations"] = json!([rule]);
    }
    serde_json::from_value(schema).expect("what schemars makes is a schema")
}

/// What those kinds are called that people make: under another name nobody would ever look at an object. Others the platform names.
fn naming(kind: Kind) -> Option<Value> {
    const NAME: &str = "[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?";
    const WORDS: &str = "1 to 40 of a-z, 0-9 and `-`, beginning and ending with a letter or digit";
    let (pattern, message) = match kind {
        Kind::Application | Kind::DomainPool | Kind::Tenant => {
            let message = format!("it is called by {WORDS}");
            (NAME.to_owned(), message)
        }
        Kind::Project => (
            format!("{NAME}[.]{NAME}"),
            format!("a project is called `<tenant>.<project>`, each {WORDS}"),
        ),
        Kind::Environment => (
            format!("({NAME}[.]){{2}}{NAME}"),
            format!("an environment is called `<tenant>.<project>.<environment>`, each {WORDS}"),
        ),
        Kind::Build | Kind::HostClaim | Kind::Operation | Kind::Release | Kind::Volume => {
            return None;
        }
        kind => unreachable!("nobody says what a {kind} is called"),
    };
    let rule = format!("self.metadata.name.matches('^{pattern}$')");
    Some(json!({ "rule": rule, "message": message }))
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings
        .with_transform(Kubernetes)
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(NullableEnum)
        .into_generator()
}

/// Takes away what Kubernetes refuses, or would change objects by.
#[derive(Clone, Debug)]
struct Kubernetes;

impl Transform for Kubernetes {
    fn transform(&mut self, schema: &mut Schema) {
        // The server would write defaults into objects. Whoever reads them knows theirs.
        schema.remove("default");
        schema.remove("title");
        let format = schema.get("format").and_then(Value::as_str);
        if format.is_some_and(|format| format.starts_with("uint")) {
            schema.remove("format");
        }
        any_key(schema);
        transform_subschemas(self, schema);
    }
}

/// Kubernetes refuses null by an enumeration even if null is in it, but asks a rule only about what is there.
#[derive(Clone, Debug)]
struct NullableEnum;

impl Transform for NullableEnum {
    fn transform(&mut self, schema: &mut Schema) {
        if schema.get("nullable") == Some(&Value::Bool(true))
            && let Some(values) = schema.remove("enum")
        {
            let rule = json!([{ "rule": format!("self in {values}") }]);
            schema.insert("x-kubernetes-validations".to_owned(), rule);
        }
        transform_subschemas(self, schema);
    }
}

/// Kubernetes has no patterns for the keys of maps.
fn any_key(schema: &mut Schema) {
    let Some(Value::Object(patterns)) = schema.remove("patternProperties") else {
        return;
    };
    if let Some((_, values)) = patterns.into_iter().next() {
        schema.insert("additionalProperties".to_owned(), values);
    }
}
