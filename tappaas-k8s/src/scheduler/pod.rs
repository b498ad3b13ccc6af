//! What an instance is, as Kubernetes writes it.

use std::{collections::BTreeMap, path::Path};

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EmptyDirVolumeSource, EnvFromSource, EnvVar, ExecAction,
        HTTPGetAction, Lifecycle, LifecycleHandler, PersistentVolumeClaimVolumeSource,
        PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
        SecretEnvSource, SleepAction, TCPSocketAction, Toleration, TopologySpreadConstraint,
        Volume, VolumeMount,
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};
use sha2::{Digest as _, Sha256};
use tappaas_core::{
    Error, Name, Result,
    backend::{Mount, Template, WorkloadId},
    model::{self, Port, ProbeCheck, Resources, User},
    placement::{self, Spread},
};

use super::{holding, names, parts, references, settings::SchedulerSettings};
use crate::PlatformId;

/// What an instance may write to besides volumes, as on one machine.
const TMP: &str = "/tmp";
/// The bytes that it may hold.
const TMP_MAX: &str = "1Gi";
/// Users of applications begin here: far from those of machines and of images.
const USERS: u32 = 1 << 30;
/// How often the readiness of what has just started is asked for, in seconds.
const READY_PERIOD: i32 = 1;

/// The template of a workload's pods, in which `environment` names the secret with their environment.
///
/// # Errors
/// `Unsupported`, naming what of the template no pod can have.
pub(super) fn template(
    platform: &PlatformId,
    settings: &SchedulerSettings,
    id: &WorkloadId,
    release: u64,
    template: &Template,
    environment: &str,
) -> Result<PodTemplateSpec> {
    check(id, template)?;
    let environment = Environment {
        secret: environment,
        referring: references::referring(template)?,
    };
    let mut labels = names::labels(platform, id);
    labels.insert(names::RELEASE.to_owned(), release.to_string());
    let peers = template.peers.iter();
    labels.extend(peers.map(|peer| (names::reaches(&peer.application.name), String::new())));
    labels.extend(holding::labels(&template.mounts));
    Ok(PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            ..ObjectMeta::default()
        }),
        spec: Some(spec(settings, id, template, environment)),
    })
}

/// Where the variables of instances come from.
struct Environment<'a> {
    /// The secret with those that have a value of their own.
    secret: &'a str,
    /// The others.
    referring: Vec<EnvVar>,
}

fn check(id: &WorkloadId, template: &Template) -> Result<()> {
    if template.user == User::Root {
        return Err(Error::unsupported(format!(
            "process {} asks for root, which namespaces of the restricted profile do not admit: use an image that needs none",
            id.process
        )));
    }
    if template.stop.signal != "SIGTERM" {
        return Err(Error::unsupported(format!(
            "process {} asks for the stop signal {}: on Kubernetes it is SIGTERM, or what the image says",
            id.process, template.stop.signal
        )));
    }
    let scope = id.application.scope();
    let mut peers = template.peers.iter();
    if let Some(peer) = peers.find(|peer| peer.application.scope() != scope) {
        return Err(Error::invalid(format!(
            "process {} cannot reach {}, which is in another environment",
            id.process, peer.application
        )));
    }
    let mut mounts = template.mounts.iter();
    if let Some(mount) = mounts.find(|mount| mount.volume.application.scope() != scope) {
        return Err(Error::invalid(format!(
            "process {} cannot mount {}, which is in another environment",
            id.process, mount.volume
        )));
    }
    Ok(())
}

fn spec(
    settings: &SchedulerSettings,
    id: &WorkloadId,
    template: &Template,
    environment: Environment<'_>,
) -> PodSpec {
    let nodes = settings.nodes(template);
    let user = i64::from(user(id));
    let delay = delay(settings, template);
    PodSpec {
        affinity: holding::affinity(&template.mounts),
        automount_service_account_token: Some(false),
        containers: vec![container(settings, id, template, environment)],
        enable_service_links: Some(false),
        node_selector: Some(nodes.labels).filter(|labels| !labels.is_empty()),
        priority_class_name: settings.priority_class.clone(),
        security_context: Some(PodSecurityContext {
            fs_group: Some(user),
            run_as_group: Some(user),
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        service_account_name: Some(names::name(id)),
        termination_grace_period_seconds: Some(delay + i64::from(template.stop.grace_seconds)),
        tolerations: Some(tolerations(&nodes.tolerations)).filter(|all| !all.is_empty()),
        topology_spread_constraints: Some(spread(id, template)),
        volumes: Some(volumes(&template.mounts)),
        ..PodSpec::default()
    }
}

fn container(
    settings: &SchedulerSettings,
    id: &WorkloadId,
    template: &Template,
    environment: Environment<'_>,
) -> Container {
    let registry = settings.registry(&template.image.repository);
    let image = match registry {
        Some(registry) => format!("{registry}/{}", template.image),
        None => template.image.to_string(),
    };
    let delay = delay(settings, template);
    Container {
        command: template
            .command
            .as_ref()
            .map(|command| literal(command.argv())),
        // What is named here goes before what comes from there.
        env: Some(environment.referring).filter(|some| !some.is_empty()),
        env_from: Some(vec![EnvFromSource {
            secret_ref: Some(SecretEnvSource {
                name: environment.secret.to_owned(),
                optional: None,
            }),
            ..EnvFromSource::default()
        }]),
        image: Some(image),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        lifecycle: (delay > 0).then(|| Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: delay }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        liveness_probe: template
            .probes
            .liveness
            .as_ref()
            .map(|it| probe(it, template)),
        name: id.process.to_string(),
        ports: Some(template.ports.iter().map(port).collect()),
        readiness_probe: readiness(template),
        resources: Some(resources(settings, template)),
        security_context: Some(crate::restricted::restricted()),
        startup_probe: template
            .probes
            .startup
            .as_ref()
            .map(|it| probe(it, template)),
        // What an application last said is the best reason there is for its end.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts(&template.mounts)),
        ..Container::default()
    }
}

/// Kubernetes replaces `$(NAME)` in words and takes `$$` for `$`; on one machine they are what they are.
fn literal(words: Vec<String>) -> Vec<String> {
    let words = words.into_iter();
    words.map(|word| word.replace('$', "$$")).collect()
}

/// The user that an application runs as, everywhere the same.
fn user(id: &WorkloadId) -> u32 {
    let hash = Sha256::digest(id.application.to_string());
    let number = hash
        .iter()
        .take(4)
        .fold(0, |number, byte| number << 8 | u32::from(*byte));
    USERS | number >> 2
}

/// Seconds that an instance goes on once it is to stop: only what gets requests has anybody to tell.
fn delay(settings: &SchedulerSettings, template: &Template) -> i64 {
    match template.ports.is_empty() {
        true => 0,
        false => i64::try_from(settings.drain_delay.as_secs()).unwrap_or(0),
    }
}

fn port(port: &Port) -> ContainerPort {
    ContainerPort {
        container_port: port.number.into(),
        name: Some(parts::port_name(port)),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Without a probe: a connection to the first port. What has none is ready when it runs.
fn readiness(template: &Template) -> Option<Probe> {
    let given = template.probes.readiness.as_ref();
    let mut probe = match (given, template.ports.first()) {
        (Some(given), _) => probe(given, template),
        (None, Some(_)) => probe(&model::Probe::new(ProbeCheck::Tcp { port: None }), template),
        (None, None) => return None,
    };
    // A new instance is waited for, and Kubernetes has one period for both. So long as was asked for it may fail all the same.
    let period = probe
        .period_seconds
        .unwrap_or(READY_PERIOD)
        .max(READY_PERIOD);
    probe.failure_threshold = probe
        .failure_threshold
        .map(|failures| failures.saturating_mul(period));
    probe.period_seconds = Some(READY_PERIOD);
    Some(probe)
}

fn probe(probe: &model::Probe, template: &Template) -> Probe {
    let number = |name: &Option<Name>| {
        let named = template
            .ports
            .iter()
            .find(|port| Some(&port.name) == name.as_ref());
        let port = named.or_else(|| template.ports.first());
        IntOrString::Int(port.map_or(Port::DEFAULT, |port| port.number).into())
    };
    let mut made = Probe {
        failure_threshold: Some(int(probe.failures)),
        initial_delay_seconds: Some(int(probe.delay_seconds)),
        period_seconds: Some(int(probe.period_seconds)),
        timeout_seconds: Some(int(probe.timeout_seconds)),
        ..Probe::default()
    };
    match &probe.check {
        ProbeCheck::Http { path, port } => {
            made.http_get = Some(HTTPGetAction {
                path: Some(path.clone()),
                port: number(port),
                ..HTTPGetAction::default()
            });
        }
        ProbeCheck::Tcp { port } => {
            made.tcp_socket = Some(TCPSocketAction {
                port: number(port),
                ..TCPSocketAction::default()
            });
        }
        ProbeCheck::Exec { command } => {
            made.exec = Some(ExecAction {
                command: Some(command.argv()),
            });
        }
    }
    made
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn resources(settings: &SchedulerSettings, template: &Template) -> ResourceRequirements {
    let asked = &template.resources;
    let limits = Resources {
        cpu_millis: asked.cpu_millis.or(settings.limits.cpu_millis),
        memory: asked.memory.or(settings.limits.memory),
        // Kubernetes has a limit of processes for a node alone.
        pids: None,
    };
    let mut limits = quantities(&limits);
    // Of what is no CPU and no memory as much is asked for as is allowed.
    let device = settings.nodes(template).resource;
    limits.extend(device.map(|(name, count)| (name, Quantity(count.to_string()))));
    ResourceRequirements {
        limits: Some(limits),
        requests: Some(quantities(&template.placement.requests)),
        ..ResourceRequirements::default()
    }
}

fn quantities(resources: &Resources) -> BTreeMap<String, Quantity> {
    let cpu = resources.cpu_millis.map(|cpu| ("cpu", format!("{cpu}m")));
    let memory = resources.memory.map(|bytes| ("memory", bytes.to_string()));
    let each = cpu.into_iter().chain(memory);
    each.map(|(name, amount)| (name.to_owned(), Quantity(amount)))
        .collect()
}

fn tolerations(given: &[placement::Toleration]) -> Vec<Toleration> {
    let each = given.iter().map(|toleration| Toleration {
        key: Some(toleration.key.clone()),
        operator: Some(match toleration.value {
            Some(_) => "Equal".to_owned(),
            None => "Exists".to_owned(),
        }),
        value: toleration.value.clone(),
        ..Toleration::default()
    });
    each.collect()
}

/// Instances keep apart where they can; asked to, evenly over zones first.
fn spread(id: &WorkloadId, template: &Template) -> Vec<TopologySpreadConstraint> {
    let over = |topology: &str| TopologySpreadConstraint {
        label_selector: Some(names::selector(names::selected(id))),
        max_skew: 1,
        topology_key: topology.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        ..TopologySpreadConstraint::default()
    };
    let (node, zone) = (
        over("kubernetes.io/hostname"),
        over("topology.kubernetes.io/zone"),
    );
    match template.placement.spread {
        Some(Spread::Node) => vec![node],
        Some(Spread::Zone) | None => vec![zone, node],
    }
}

fn volumes(mounts: &[Mount]) -> Vec<Volume> {
    let claims = mounts.iter().map(|mount| Volume {
        name: names::claim(&mount.volume),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: names::claim(&mount.volume),
            read_only: Some(mount.read_only),
        }),
        ..Volume::default()
    });
    let tmp = Volume {
        name: "tmp".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(TMP_MAX.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    claims
        .chain([tmp].into_iter().filter(|_| has_tmp(mounts)))
        .collect()
}

/// A volume may take its place.
fn has_tmp(mounts: &[Mount]) -> bool {
    mounts.iter().all(|mount| mount.path != Path::new(TMP))
}

fn mounts(mounts: &[Mount]) -> Vec<VolumeMount> {
    let claims = mounts.iter().map(|mount| VolumeMount {
        mount_path: mount.path.display().to_string(),
        name: names::claim(&mount.volume),
        read_only: Some(mount.read_only),
        ..VolumeMount::default()
    });
    let tmp = VolumeMount {
        mount_path: TMP.to_owned(),
        name: "tmp".to_owned(),
        ..VolumeMount::default()
    };
    claims
        .chain([tmp].into_iter().filter(|_| has_tmp(mounts)))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tappaas_core::{
        Digest,
        backend::{Image, VolumeId},
        model::{Command, Probes, RestartPolicy, Runtime, Stop},
    };

    use super::*;
    use crate::{GatewaySource, RuntimeNodes, platform::sample};

    /// Everything that an application can say, as far out as it can be said.
    fn everything(id: &WorkloadId) -> Template {
        let exec = ["/proc/1/root/sh", "$(SECRET)", "--privileged"].map(str::to_owned);
        let command = Command::Exec(exec.into());
        let check = ProbeCheck::Exec {
            command: command.clone(),
        };
        Template {
            image: Image {
                repository: "registry.example/a".parse().unwrap(),
                digest: Digest::of("a"),
            },
            command: Some(command),
            environment: [
                ("LD_PRELOAD", "/x"),
                ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
            ]
            .map(|(name, value)| (name.to_owned(), model::EnvValue::new(value)))
            .into(),
            ports: vec![Port::undeclared()],
            resources: Resources::default(),
            probes: Probes {
                liveness: Some(model::Probe::new(check)),
                ..Probes::default()
            },
            stop: Stop::default(),
            restart: RestartPolicy::Always,
            user: User::default(),
            mounts: vec![Mount {
                volume: VolumeId {
                    application: id.application.clone(),
                    name: Name::new("data").unwrap(),
                },
                path: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
                read_only: false,
            }],
            peers: Vec::new(),
            placement: placement::Constraints {
                runtime: Runtime::Gpu,
                ..placement::Constraints::default()
            },
        }
    }

    fn id() -> WorkloadId {
        WorkloadId {
            application: "acme/shop/production/web".parse().unwrap(),
            process: Name::new("web").unwrap(),
            track: tappaas_core::backend::Track::Stable,
        }
    }

    /// Fields of a pod that reach beyond it; what is not asked for is not there.
    const BEYOND: [&str; 16] = [
        "hostAliases",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostPath",
        "hostPort",
        "hostUsers",
        "initContainers",
        "nodeName",
        "privileged",
        "procMount",
        "projected",
        "runtimeClassName",
        "shareProcessNamespace",
        "subPath",
        "sysctls",
    ];

    #[test]
    fn nothing_that_an_application_says_reaches_beyond_its_pod() {
        let mut settings =
            SchedulerSettings::new(vec![GatewaySource::Network("10.0.0.0/8".to_owned())]).unwrap();
        let nodes = RuntimeNodes {
            labels: BTreeMap::from([("kind".to_owned(), "gpu".to_owned())]),
            ..RuntimeNodes::default()
        };
        settings.runtimes.insert(Runtime::Gpu, nodes);
        let id = id();
        let made = template(&sample(), &settings, &id, 1, &everything(&id), "secret").unwrap();
        let spec = serde_json::to_value(made.spec.unwrap()).unwrap();
        let text = spec.to_string();
        for field in BEYOND {
            assert!(!text.contains(&format!("\"{field}\"")), "{field}: {text}");
        }
        assert_eq!(spec["automountServiceAccountToken"], json!(false));
        assert_eq!(spec["enableServiceLinks"], json!(false));
        assert_eq!(spec["serviceAccountName"], json!(names::name(&id)));
        // Whoever runs the platform says which labels a runtime has.
        assert_eq!(spec["nodeSelector"], json!({ "kind": "gpu" }));
        assert_eq!(spec["securityContext"]["runAsNonRoot"], json!(true));
        assert_eq!(
            spec["securityContext"]["seccompProfile"],
            json!({ "type": "RuntimeDefault" })
        );
        let [container] = spec["containers"].as_array().unwrap().as_slice() else {
            panic!("{text}");
        };
        assert_eq!(
            container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "capabilities": { "drop": ["ALL"] },
                "readOnlyRootFilesystem": true,
            })
        );
        let kinds: Vec<_> = spec["volumes"].as_array().unwrap().iter().collect();
        let kind = |volume: &&Value, kind: &str| volume.get(kind).is_some();
        assert!(
            kinds
                .iter()
                .all(|it| kind(it, "persistentVolumeClaim") || kind(it, "emptyDir")),
            "{text}"
        );
    }

    #[test]
    fn what_is_of_another_tenant_is_neither_mounted_nor_reached() {
        let settings =
            SchedulerSettings::new(vec![GatewaySource::Network("10.0.0.0/8".to_owned())]).unwrap();
        let id = id();
        let other: model::ApplicationKey = "other/shop/production/web".parse().unwrap();
        let mut mounting = everything(&id);
        mounting.mounts[0].volume.application = other.clone();
        let mut reaching = everything(&id);
        reaching.peers.push(tappaas_core::backend::Peer {
            application: other,
            process: Name::new("web").unwrap(),
            port: Port::undeclared().name,
        });
        for wrong in [mounting, reaching] {
            let refused = template(&sample(), &settings, &id, 1, &wrong, "secret").unwrap_err();
            assert!(
                refused.to_string().contains("in another environment"),
                "{refused}"
            );
        }
    }
}
