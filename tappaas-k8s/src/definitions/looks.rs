//! How `kubectl` calls and shows the kinds.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition as Column, JSONSchemaProps,
};
use tappaas_core::{
    Kind,
    model::{
        ApplicationSpec, BuildObjectSpec, DomainPoolSpec, EnvironmentSpec, HostClaimSpec,
        OperationSpec, ProjectSpec, ReleaseSpec, Spec, TenantSpec, VolumeObjectSpec,
    },
};

use super::schema;

/// What of a kind is not the same for all.
pub(super) struct Look {
    pub(super) kind: Kind,
    /// No name that Kubernetes or a widespread controller has.
    pub(super) short_name: &'static str,
    /// What `kubectl get` shows beside the name.
    pub(super) columns: Vec<Column>,
    pub(super) schema: JSONSchemaProps,
}

/// A column's title, where in the object its value is, and of which type that is.
type Shown<'a> = (&'a str, &'a str, &'a str);

/// A string that only `kubectl get -o wide` shows.
const WIDE: &str = "wide";
const MESSAGE: Shown<'_> = ("Message", ".status.message", WIDE);
const PHASE: Shown<'_> = ("Phase", ".status.phase", "string");
const OWNER: Shown<'_> = ("Application", ".spec.application", "string");
const READY: Shown<'_> = ("Ready", READY_STATUS, "string");
const REASON: Shown<'_> = ("Reason", READY_REASON, "string");
const READY_STATUS: &str = ".status.conditions[?(@.type==\"Ready\")].status";
const READY_REASON: &str = ".status.conditions[?(@.type==\"Ready\")].reason";
const AGE: Shown<'_> = ("Age", ".metadata.creationTimestamp", "date");

/// Every kind.
pub(super) fn all() -> [Look; Kind::ALL.len()] {
    let release = ("Release", ".status.current", "integer");
    let hosts = ("Hosts", ".status.hosts", "string");
    let bases = ("Bases", ".spec.bases", "string");
    let pool = ("Pool", ".spec.domainPool", "string");
    let host = ("Host", ".spec.host", "string");
    let verb = ("Verb", ".spec.verb", "string");
    let state = ("State", ".status.state", "string");
    let version = ("Version", ".spec.version", "integer");
    let bytes = ("Bytes", ".spec.size", "integer");
    let namespace = ("Namespace", ".status.namespace", "string");
    let used = ("Used", ".status.used", "integer");
    [
        look::<ApplicationSpec>("tapp", &[READY, PHASE, release, hosts, MESSAGE]),
        look::<BuildObjectSpec>("tbuild", &[OWNER, PHASE, MESSAGE]),
        look::<DomainPoolSpec>("tpool", &[bases, READY, REASON]),
        look::<EnvironmentSpec>("tenv", &[namespace, READY, REASON]),
        look::<HostClaimSpec>("thost", &[host, OWNER]),
        look::<OperationSpec>("toperation", &[OWNER, verb, state, MESSAGE]),
        look::<ProjectSpec>("tproject", &[pool, READY, REASON]),
        look::<ReleaseSpec>("trel", &[OWNER, version, PHASE, MESSAGE]),
        look::<TenantSpec>("ttenant", &[READY, REASON]),
        look::<VolumeObjectSpec>("tvol", &[OWNER, bytes, used]),
    ]
}

fn look<S: Spec>(short_name: &'static str, shown: &[Shown<'_>]) -> Look {
    Look {
        kind: S::KIND,
        short_name,
        columns: shown.iter().chain([&AGE]).copied().map(column).collect(),
        schema: schema::of::<S>(),
    }
}

fn column((name, path, form): Shown<'_>) -> Column {
    let wide = form == WIDE;
    Column {
        name: name.to_owned(),
        json_path: path.to_owned(),
        type_: if wide { "string" } else { form }.to_owned(),
        priority: wide.then_some(1),
        ..Column::default()
    }
}
