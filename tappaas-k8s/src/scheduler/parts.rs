//! What a workload needs besides its pods, each part applied before them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        core::v1::{Secret, Service, ServiceAccount, ServicePort, ServiceSpec},
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule,
            NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use sha2::{Digest as _, Sha256};
use tappaas_core::{
    Error, Name, Result,
    backend::{Endpoint, Template, WorkloadId},
    model::{Port, Protocol},
};

use super::{
    names, references,
    settings::{GatewaySource, SchedulerSettings},
};
use crate::PlatformId;

/// The port of a service at which the port named `http` is reached.
const HTTP: u16 = 80;
/// Other ports have numbers from here on: none that anything listens on by custom.
const OTHERS: u16 = 10_000;
const DNS: i32 = 53;

/// The environment of a template's instances.
///
/// Another environment is another secret, so that an instance always starts with its own.
pub(super) fn environment(platform: &PlatformId, id: &WorkloadId, template: &Template) -> Secret {
    let values = references::literal(template);
    let json = serde_json::to_vec(&values).expect("an environment has string keys only");
    let hash = hex::encode(Sha256::digest(json));
    Secret {
        immutable: Some(true),
        metadata: ObjectMeta {
            name: Some(names::environment(id, &hash)),
            ..metadata(platform, id)
        },
        string_data: Some(values),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// Who a workload's instances are to the cluster: nobody.
pub(super) fn account(platform: &PlatformId, id: &WorkloadId) -> ServiceAccount {
    ServiceAccount {
        automount_service_account_token: Some(false),
        metadata: metadata(platform, id),
        ..ServiceAccount::default()
    }
}

/// What a workload's ports are reached at; `None` if it has none.
///
/// # Errors
/// `Invalid` if two of its ports would be at the same.
pub(super) fn service(
    platform: &PlatformId,
    id: &WorkloadId,
    template: &Template,
) -> Result<Option<Service>> {
    let mut ports = BTreeMap::new();
    for port in &template.ports {
        let number = service_port(&port.name);
        let made = ServicePort {
            app_protocol: (port.protocol == Protocol::H2c).then(|| "kubernetes.io/h2c".to_owned()),
            name: Some(port_name(port)),
            port: number.into(),
            protocol: Some("TCP".to_owned()),
            // By name: the releases that replace each other may listen on different ones.
            target_port: Some(IntOrString::String(port_name(port))),
            ..ServicePort::default()
        };
        if ports.insert(number, made).is_some() {
            return Err(Error::invalid(format!(
                "two ports of process {} are both reached at {number}: rename {}",
                id.process, port.name
            )));
        }
    }
    if ports.is_empty() {
        return Ok(None);
    }
    Ok(Some(Service {
        metadata: metadata(platform, id),
        spec: Some(ServiceSpec {
            ports: Some(ports.into_values().collect()),
            selector: Some(names::selected(id)),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }))
}

/// Where a named port of a workload is reached, whatever its number inside: whoever is bound to it must not have to know that.
pub(super) fn service_port(name: &Name) -> u16 {
    if *name == Port::undeclared().name {
        return HTTP;
    }
    let hash = Sha256::digest(name.as_str());
    OTHERS + u16::from_be_bytes([hash[0], hash[1]]) % (u16::MAX - OTHERS)
}

/// What a port is called in pods, services and policies, where a name has 15 characters at most.
pub(super) fn port_name(port: &Port) -> String {
    format!("p-{}", service_port(&port.name))
}

/// The DNS name of a workload's service.
pub(super) fn host(platform: &PlatformId, id: &WorkloadId) -> String {
    let namespace = names::namespace(platform, &id.application);
    format!("{}.{namespace}.svc", names::name(id))
}

/// Where each of a workload's ports is reached.
pub(super) fn endpoints(
    platform: &PlatformId,
    id: &WorkloadId,
    ports: &[Name],
) -> BTreeMap<Name, Endpoint> {
    let each = ports.iter().map(|name| {
        let endpoint = Endpoint::Service {
            host: host(platform, id),
            port: service_port(name),
        };
        (name.clone(), endpoint)
    });
    each.collect()
}

/// Lets one instance go at a time while nodes are emptied, and what does not work at any time; `None` for a single one, which could never
/// leave its node.
pub(super) fn budget(
    platform: &PlatformId,
    id: &WorkloadId,
    count: u32,
) -> Option<PodDisruptionBudget> {
    (count > 1).then(|| PodDisruptionBudget {
        metadata: metadata(platform, id),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(names::selector(names::selected(id))),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}

/// Who may reach a workload's instances and whom they may reach: the gateway, whoever is bound to them, whomever they are bound to, names,
/// and the networks that everybody may. Everything else is denied, also from the same namespace.
pub(super) fn policy(
    platform: &PlatformId,
    settings: &SchedulerSettings,
    id: &WorkloadId,
    template: &Template,
) -> NetworkPolicy {
    let ports = |only: fn(&Port) -> bool| -> Vec<_> {
        let chosen = template.ports.iter().filter(|port| only(port));
        chosen
            .map(|port| on("TCP", IntOrString::String(port_name(port))))
            .collect()
    };
    let routed = ports(|port| port.protocol != Protocol::Tcp);
    let mut ingress = vec![NetworkPolicyIngressRule {
        from: Some(vec![pods([(
            names::reaches(&id.application.name),
            String::new(),
        )])]),
        ports: Some(ports(|_| true)),
    }];
    let outside = outside(settings);
    if !outside.is_empty() && !routed.is_empty() {
        ingress.push(NetworkPolicyIngressRule {
            from: Some(outside),
            ports: Some(routed),
        });
    }
    // A rule without ports would be for all of them.
    ingress.retain(|rule| rule.ports.as_ref().is_some_and(|ports| !ports.is_empty()));
    NetworkPolicy {
        metadata: metadata(platform, id),
        spec: Some(NetworkPolicySpec {
            egress: Some(egress(settings, template)),
            ingress: Some(ingress),
            pod_selector: Some(names::selector(names::selected(id))),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
        }),
    }
}

/// Whoever brings requests from outside.
fn outside(settings: &SchedulerSettings) -> Vec<NetworkPolicyPeer> {
    let labels = |labels: &BTreeMap<String, String>| Some(names::selector(labels.clone()));
    let each = settings.gateways.iter().map(|gateway| match gateway {
        GatewaySource::Pods {
            namespace_labels,
            pod_labels,
        } => NetworkPolicyPeer {
            namespace_selector: labels(namespace_labels),
            pod_selector: labels(pod_labels),
            ..NetworkPolicyPeer::default()
        },
        GatewaySource::Network(network) => block(network, &[]),
    });
    each.collect()
}

fn egress(settings: &SchedulerSettings, template: &Template) -> Vec<NetworkPolicyEgressRule> {
    let names = NetworkPolicyEgressRule {
        ports: Some(
            ["UDP", "TCP"]
                .map(|protocol| on(protocol, IntOrString::Int(DNS)))
                .into(),
        ),
        to: None,
    };
    let networks = settings
        .egress
        .iter()
        .map(|egress| block(&egress.network, &egress.except));
    let peers = template.peers.iter().map(|peer| {
        let name = peer.application.name.to_string();
        pods([
            (names::APPLICATION.to_owned(), name),
            names::of_process(&peer.process),
        ])
    });
    let to: Vec<_> = networks.chain(peers).collect();
    let mut rules = vec![names];
    // A rule without anybody would be for everybody.
    if !to.is_empty() {
        rules.push(NetworkPolicyEgressRule {
            ports: None,
            to: Some(to),
        });
    }
    rules
}

/// Pods of the same namespace.
fn pods<const N: usize>(labels: [(String, String); N]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(names::selector(labels.into())),
        ..NetworkPolicyPeer::default()
    }
}

fn block(network: &str, except: &[String]) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: network.to_owned(),
            except: Some(except.to_vec()).filter(|except| !except.is_empty()),
        }),
        ..NetworkPolicyPeer::default()
    }
}

fn on(protocol: &str, port: IntOrString) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(port),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    }
}

/// The metadata of what belongs to a workload.
pub(super) fn metadata(platform: &PlatformId, id: &WorkloadId) -> ObjectMeta {
    ObjectMeta {
        labels: Some(names::labels(platform, id)),
        name: Some(names::name(id)),
        namespace: Some(names::namespace(platform, &id.application)),
        ..ObjectMeta::default()
    }
}
