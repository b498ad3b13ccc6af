//! Variables whose values are in Secrets of the environment's namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};
use tappaas_core::{
    Error, Name, Result,
    backend::Template,
    model::{EnvValue, SecretReference},
};

use super::names;

/// What the Secrets of an environment's namespace are called as a store.
pub(super) fn store() -> Name {
    Name::new("kubernetes").expect("`kubernetes` is a name")
}

/// The variables of a template with a value of their own.
pub(super) fn literal(template: &Template) -> BTreeMap<String, String> {
    let own = |value: &EnvValue| matches!(value.reference(), Ok(None));
    let values = template.environment.iter().filter(|(_, value)| own(value));
    values
        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
        .collect()
}

/// The variables of a template whose values are kept elsewhere.
///
/// # Errors
/// `Invalid`, naming the variable, if a reference names what no Secret can be or have.
pub(super) fn referring(template: &Template) -> Result<Vec<EnvVar>> {
    let mut variables = Vec::new();
    for (name, value) in &template.environment {
        let Some(reference) = value.reference()? else {
            continue;
        };
        variables.push(EnvVar {
            name: name.clone(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(selector(name, &reference)?),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        });
    }
    Ok(variables)
}

fn selector(variable: &str, reference: &SecretReference) -> Result<SecretKeySelector> {
    let wrong = |what| Error::invalid(format!("variable {variable}: {reference} {what}"));
    let name = reference.path.as_str();
    if !is_name(name) {
        return Err(wrong("names no Secret: its name has a-z, 0-9, `-` and `.`"));
    }
    // Applications of an environment share its namespace, and not their values.
    if names::is_environment(name) {
        return Err(wrong("names what the platform keeps for a release"));
    }
    let key = reference.key.clone();
    Ok(SecretKeySelector {
        name: name.to_owned(),
        key: key.ok_or_else(|| wrong("names no key: which, follows a `#`"))?,
        optional: Some(false),
    })
}

/// An object's name (RFC 1123 subdomain).
fn is_name(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let label = |label: &str| {
        label.bytes().all(inner)
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_a_secret_and_a_key() {
        let reference = |text: &str| selector("TOKEN", &text.parse().unwrap());
        let found = reference("secret://kubernetes/db.main#user_name").unwrap();
        assert_eq!(
            (found.name.as_str(), found.key.as_str()),
            ("db.main", "user_name")
        );
        assert_eq!(found.optional, Some(false));
        for (text, what) in [
            ("secret://kubernetes/a/b#c", "names no Secret"),
            ("secret://kubernetes/A#c", "names no Secret"),
            ("secret://kubernetes/a-.b#c", "names no Secret"),
            ("secret://kubernetes/a", "names no key"),
            (
                "secret://kubernetes/db-web-298c82c22512-0123456789ab#URL",
                "keeps for a release",
            ),
        ] {
            let error = reference(text).unwrap_err().to_string();
            assert!(error.contains("TOKEN") && error.contains(what), "{error}");
        }
    }
}
