//! The custom resources of the platform's kinds, made from core's own types.

mod looks;
mod schema;

use self::looks::Look;
use crate::store::plural;
use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionNames, CustomResourceDefinitionSpec,
        CustomResourceDefinitionVersion, CustomResourceSubresourceStatus,
        CustomResourceSubresources, CustomResourceValidation,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// The one version there is.
const VERSION: &str = "v1";
/// `kubectl get tappaas` shows what is of any of the kinds.
const CATEGORY: &str = "tappaas";

/// A custom resource for each kind, in the API group `group`, usually [`GROUP`](crate::GROUP).
pub fn definitions(group: &str) -> Vec<CustomResourceDefinition> {
    let all = looks::all().into_iter();
    all.map(|look| definition(group, look)).collect()
}

fn definition(group: &str, look: Look) -> CustomResourceDefinition {
    let plural = plural(look.kind);
    let scope = match look.kind.depth() {
        3 => "Namespaced",
        _ => "Cluster",
    };
    CustomResourceDefinition {
        metadata: ObjectMeta {
            name: Some(format!("{plural}.{group}")),
            ..ObjectMeta::default()
        },
        spec: CustomResourceDefinitionSpec {
            group: group.to_owned(),
            names: names(&look, plural),
            scope: scope.to_owned(),
            versions: vec![version(look)],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn names(look: &Look, plural: String) -> CustomResourceDefinitionNames {
    CustomResourceDefinitionNames {
        categories: Some(vec![CATEGORY.to_owned()]),
        kind: look.kind.as_str().to_owned(),
        list_kind: Some(format!("{}List", look.kind)),
        plural,
        short_names: Some(vec![look.short_name.to_owned()]),
        singular: Some(look.kind.as_str().to_lowercase()),
    }
}

fn version(look: Look) -> CustomResourceDefinitionVersion {
    let status = CustomResourceSubresourceStatus(serde_json::json!({}));
    CustomResourceDefinitionVersion {
        name: VERSION.to_owned(),
        served: true,
        storage: true,
        additional_printer_columns: Some(look.columns),
        schema: Some(CustomResourceValidation {
            open_api_v3_schema: Some(look.schema),
        }),
        subresources: Some(CustomResourceSubresources {
            status: Some(status),
            ..CustomResourceSubresources::default()
        }),
        ..CustomResourceDefinitionVersion::default()
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::Kind;

    use super::*;

    #[test]
    fn there_is_one_for_each_kind() {
        assert_eq!(looks::all().map(|look| look.kind), Kind::ALL);
    }

    #[test]
    fn each_kind_has_names_of_its_own() {
        let definitions = definitions("tappaas.dev");
        let mut names = Vec::new();
        for definition in &definitions {
            let found = &definition.spec.names;
            names.extend([found.plural.clone(), found.singular.clone().unwrap()]);
            names.extend(found.short_names.clone().unwrap());
        }
        assert_eq!(names.len(), Kind::ALL.len() * 3);
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len() * 3);
    }

    #[test]
    fn nothing_in_a_schema_is_refused_by_kubernetes() {
        for definition in definitions("tappaas.dev") {
            let text = serde_json::to_string(&definition).unwrap();
            for word in [
                "$ref",
                "\"default\"",
                "patternProperties",
                "\"uint",
                "$defs",
            ] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
    }
}
