//! What a cluster needs before a control plane can live in it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec},
        core::v1::{
            Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Namespace,
            ObjectFieldSelector, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
            ResourceRequirements, SeccompProfile, ServiceAccount,
        },
        rbac::v1::{
            ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use serde::Serialize;
use serde_json::Value;
use tappaas_core::Kind;

use crate::{definitions, restricted::restricted, store::plural};

/// What everything is called that is installed.
const NAME: &str = "tappaas";
/// Where health and metrics are served.
const ADMIN_PORT: u16 = 9180;
const OBJECTS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

/// How an operator is installed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Installation {
    /// The namespace of the operator itself.
    pub namespace: String,
    /// The API group of the custom resources.
    pub group: String,
    /// The image whose program is `tappaas`.
    pub image: String,
    /// What is said to `tappaas operator` besides.
    pub arguments: Vec<String>,
    /// How many of it run; one of them leads.
    pub replicas: u32,
}

impl Installation {
    /// The objects to apply, in this order: definitions, namespace, the least rights that suffice, and the operator.
    pub fn objects(&self) -> Vec<Value> {
        let mut objects: Vec<_> = definitions(&self.group).iter().map(object).collect();
        objects.extend([
            object(&self.namespace()),
            object(&ServiceAccount {
                metadata: self.metadata(),
                ..ServiceAccount::default()
            }),
            object(&ClusterRole {
                metadata: named(&self.everywhere()),
                rules: Some(rules(&self.group)),
                ..ClusterRole::default()
            }),
            object(&ClusterRoleBinding {
                metadata: named(&self.everywhere()),
                role_ref: role("ClusterRole", &self.everywhere()),
                subjects: Some(vec![self.subject()]),
            }),
            object(&Role {
                metadata: self.metadata(),
                rules: Some(own_rules()),
            }),
            object(&RoleBinding {
                metadata: self.metadata(),
                role_ref: role("Role", NAME),
                subjects: Some(vec![self.subject()]),
            }),
            object(&self.deployment()),
        ]);
        objects
    }

    /// The name of what lies in no namespace: several installations have their own.
    fn everywhere(&self) -> String {
        format!("{NAME}:{}", self.namespace)
    }

    fn namespace(&self) -> Namespace {
        let labels = [("pod-security.kubernetes.io/enforce", "restricted")];
        Namespace {
            metadata: ObjectMeta {
                labels: Some(text(labels)),
                ..named(&self.namespace)
            },
            ..Namespace::default()
        }
    }

    fn deployment(&self) -> Deployment {
        let labels = text([("app.kubernetes.io/name", NAME)]);
        Deployment {
            metadata: self.metadata(),
            spec: Some(DeploymentSpec {
                replicas: i32::try_from(self.replicas).ok(),
                selector: LabelSelector {
                    match_labels: Some(labels.clone()),
                    ..LabelSelector::default()
                },
                template: PodTemplateSpec {
                    metadata: Some(ObjectMeta {
                        labels: Some(labels),
                        ..ObjectMeta::default()
                    }),
                    spec: Some(PodSpec {
                        containers: vec![self.container()],
                        enable_service_links: Some(false),
                        security_context: Some(PodSecurityContext {
                            run_as_non_root: Some(true),
                            run_as_user: Some(65_532),
                            seccomp_profile: Some(SeccompProfile {
                                type_: "RuntimeDefault".to_owned(),
                                ..SeccompProfile::default()
                            }),
                            ..PodSecurityContext::default()
                        }),
                        service_account_name: Some(NAME.to_owned()),
                        ..PodSpec::default()
                    }),
                },
                ..DeploymentSpec::default()
            }),
            ..Deployment::default()
        }
    }

    fn container(&self) -> Container {
        let fixed = [
            "operator".to_owned(),
            format!("--group={}", self.group),
            format!("--admin=0.0.0.0:{ADMIN_PORT}"),
        ];
        Container {
            args: Some(fixed.into_iter().chain(self.arguments.clone()).collect()),
            env: Some(vec![
                field("TAPPAAS_IDENTITY", "metadata.name"),
                field("TAPPAAS_NAMESPACE", "metadata.namespace"),
            ]),
            image: Some(self.image.clone()),
            liveness_probe: Some(probe("/healthz")),
            name: NAME.to_owned(),
            ports: Some(vec![ContainerPort {
                container_port: ADMIN_PORT.into(),
                name: Some("admin".to_owned()),
                ..ContainerPort::default()
            }]),
            readiness_probe: Some(probe("/readyz")),
            resources: Some(ResourceRequirements {
                limits: Some(quantities([("memory", "512Mi")])),
                requests: Some(quantities([("cpu", "50m"), ("memory", "64Mi")])),
                ..ResourceRequirements::default()
            }),
            security_context: Some(restricted()),
            ..Container::default()
        }
    }

    fn subject(&self) -> Subject {
        Subject {
            kind: "ServiceAccount".to_owned(),
            name: NAME.to_owned(),
            namespace: Some(self.namespace.clone()),
            ..Subject::default()
        }
    }

    fn metadata(&self) -> ObjectMeta {
        ObjectMeta {
            namespace: Some(self.namespace.clone()),
            ..named(NAME)
        }
    }
}

/// The rights in the whole cluster that an operator needs: these verbs, and no more.
pub fn rules(group: &str) -> Vec<PolicyRule> {
    object_rules(group)
        .into_iter()
        .chain(workload_rules())
        .collect()
}

/// What the store does, and whoever tells of its objects.
pub(crate) fn object_rules(group: &str) -> Vec<PolicyRule> {
    let kinds: Vec<_> = Kind::ALL.map(plural).into();
    let status: Vec<_> = kinds.iter().map(|kind| format!("{kind}/status")).collect();
    let ours = |resources: &[String], verbs: &[&str]| {
        let resources: Vec<_> = resources.iter().map(String::as_str).collect();
        rule(group, &resources, verbs)
    };
    vec![
        ours(
            &kinds,
            &["get", "list", "watch", "create", "update", "delete"],
        ),
        ours(&status, &["update"]),
        rule(
            "apiextensions.k8s.io",
            &["customresourcedefinitions"],
            &["get"],
        ),
        rule("events.k8s.io", &["events"], &["create"]),
    ]
}

/// What it takes to let people run commands inside of instances, besides.
pub(crate) fn command_rules() -> Vec<PolicyRule> {
    vec![rule("", &["pods/exec"], &["get", "create"])]
}

/// What scheduler, ingress and volumes do.
pub(crate) fn workload_rules() -> Vec<PolicyRule> {
    vec![
        rule("", &["namespaces"], &["get", "create", "delete"]),
        rule("", &["nodes"], &["list"]),
        rule("", &["pods"], &["list", "watch"]),
        rule("", &["pods/log"], &["get"]),
        rule("", &["services", "persistentvolumeclaims"], &OBJECTS),
        rule("", &["serviceaccounts"], &["create", "patch", "delete"]),
        rule("", &["secrets"], &["list", "create", "delete"]),
        rule(
            "",
            &["configmaps"],
            &["get", "list", "create", "patch", "delete"],
        ),
        rule("apps", &["deployments", "statefulsets"], &OBJECTS),
        rule("autoscaling", &["horizontalpodautoscalers"], &OBJECTS),
        rule("batch", &["jobs"], &["list", "create", "delete"]),
        // Of pods that were not made some controllers tell by events alone.
        rule("", &["events"], &["list"]),
        rule(
            "",
            &["resourcequotas", "limitranges"],
            &["get", "create", "patch", "delete"],
        ),
        rule(
            "policy",
            &["poddisruptionbudgets"],
            &["create", "patch", "delete"],
        ),
        rule(
            "networking.k8s.io",
            &["networkpolicies", "ingresses"],
            &OBJECTS,
        ),
        rule("gateway.networking.k8s.io", &["httproutes"], &OBJECTS),
    ]
}

/// The rights in the operator's own namespace.
fn own_rules() -> Vec<PolicyRule> {
    vec![rule(
        "coordination.k8s.io",
        &["leases"],
        &["get", "create", "update"],
    )]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let all = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(all(resources)),
        verbs: all(verbs),
        ..PolicyRule::default()
    }
}

fn role(kind: &str, name: &str) -> RoleRef {
    RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
    }
}

fn field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: path.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::Int(ADMIN_PORT.into()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn text<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs
        .map(|(name, value)| (name.to_owned(), Quantity(value.to_owned())))
        .into()
}

fn object(object: &impl Serialize) -> Value {
    serde_json::to_value(object).expect("an object has string keys only")
}
