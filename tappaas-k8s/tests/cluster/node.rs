//! Workloads on the one real node.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::{
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::Job,
    core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tappaas_core::{
    Clock, Name, Timestamp,
    backend::{Endpoint, Image, Scheduler, Template, Volume, VolumeId, Volumes as _, WorkloadId},
    model::{ApplicationKey, Command, Limits, RestartPolicy, SecretReference},
};
use tappaas_k8s::{GatewaySource, KubernetesScheduler, SchedulerSettings};
use tappaas_testkit::{
    Program,
    conformance::{Failure, PATIENCE, scheduler::SchedulerFixture},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Mutex, OnceCell, OwnedMutexGuard},
};

use crate::{
    cluster::{client, facts, platform},
    storage::Storage,
};

/// The scheduler on the one cluster, with nothing on it, for one test at a time.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) scheduler: Arc<KubernetesScheduler>,
    client: Shown,
    pub(crate) image: Image,
    /// Made for the case that wants it.
    storage: OnceCell<Storage>,
    _turn: OwnedMutexGuard<()>,
}

/// A client that can be shown.
struct Shown(Client);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// The wall clock: times of pods are compared with it.
#[derive(Debug)]
pub(crate) struct WallClock;

#[async_trait]
impl Clock for WallClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Node {
    /// Waits until no other test has it and the last one's workloads are gone.
    pub(crate) async fn take() -> Self {
        static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
        let turn = TURN.get_or_init(Arc::default).clone().lock_owned().await;
        let client = client().await;
        let scheduler = scheduler(client.clone());
        empty(&scheduler, |_| true).await;
        Self {
            scheduler: Arc::new(scheduler),
            client: Shown(client),
            image: image(),
            storage: OnceCell::new(),
            _turn: turn,
        }
    }

    /// How workloads run on a cluster that has one gateway, which follows within a second.
    pub(crate) fn settings() -> SchedulerSettings {
        // Envoy runs on the node. The network's plugin enforces nothing of it.
        let gateways = vec![GatewaySource::Network("10.224.0.0/16".to_owned())];
        SchedulerSettings {
            drain_delay: Duration::from_secs(1),
            ..SchedulerSettings::new(gateways).unwrap()
        }
    }

    /// The objects of whatever kind that are left of an application.
    pub(crate) async fn left(&self, application: &ApplicationKey) -> Vec<String> {
        let mut left = self.named::<ConfigMap>(application).await;
        left.extend(self.named::<Deployment>(application).await);
        left.extend(self.named::<HorizontalPodAutoscaler>(application).await);
        left.extend(self.named::<Job>(application).await);
        left.extend(self.named::<NetworkPolicy>(application).await);
        left.extend(self.named::<Pod>(application).await);
        left.extend(self.named::<PodDisruptionBudget>(application).await);
        left.extend(self.named::<Secret>(application).await);
        left.extend(self.named::<Service>(application).await);
        left.extend(self.named::<ServiceAccount>(application).await);
        left
    }

    async fn named<K>(&self, application: &ApplicationKey) -> Vec<String>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let everywhere: Api<K> = Api::all(self.client.0.clone());
        let request = ListParams::default().labels(&of(application));
        let found = everywhere.list(&request).await.unwrap().items;
        let named = |object: K| format!("{} {}", K::kind(&()), object.name_any());
        found.into_iter().map(named).collect()
    }

    /// The revision of an application's one deployment.
    pub(crate) async fn spec_generation(&self, application: &ApplicationKey) -> (i64, String) {
        let (_, found) = self.deployment(application).await;
        let annotations = found.metadata.annotations.unwrap();
        let applied = annotations["tappaas.dev/generation"].clone();
        (found.metadata.generation.unwrap(), applied)
    }

    /// Changes an application's one deployment, as a person does.
    pub(crate) async fn edit_deployment(&self, application: &ApplicationKey, edit: &Value) {
        let (api, found) = self.deployment(application).await;
        let name = found.metadata.name.unwrap();
        let parameters = PatchParams {
            field_manager: Some("somebody".to_owned()),
            ..PatchParams::default()
        };
        let patch = Patch::Strategic(edit);
        api.patch(&name, &parameters, &patch).await.unwrap();
    }

    /// Whether an application's one deployment has an instance of the image that it was applied with.
    pub(crate) async fn is_as_applied(&self, application: &ApplicationKey) -> bool {
        let (_, found) = self.deployment(application).await;
        let spec = found.spec.unwrap();
        let containers = spec.template.spec.unwrap().containers;
        spec.replicas == Some(1) && containers[0].image == Some(self.image.to_string())
    }

    pub(crate) async fn deployment(
        &self,
        application: &ApplicationKey,
    ) -> (Api<Deployment>, Deployment) {
        let everywhere: Api<Deployment> = Api::all(self.client.0.clone());
        let request = ListParams::default().labels(&of(application));
        let found = everywhere.list(&request).await.unwrap().items.remove(0);
        let namespace = found.metadata.namespace.clone().unwrap();
        (Api::namespaced(self.client.0.clone(), &namespace), found)
    }

    /// The address of a service: the machine has no names of the cluster's, but ways to its services.
    async fn address(&self, host: &str, port: u16) -> Result<SocketAddr, Failure> {
        let mut parts = host.split('.');
        let (name, namespace) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let services: Api<Service> = Api::namespaced(self.client.0.clone(), namespace);
        let service = services.get(name).await?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        let address = address.ok_or_else(|| Failure::from(format!("{host} has no address")))?;
        Ok(SocketAddr::new(address.parse()?, port))
    }
}

/// The scheduler on the one cluster.
pub(crate) fn scheduler(client: Client) -> KubernetesScheduler {
    KubernetesScheduler::new(client, platform(), Node::settings(), Arc::new(WallClock))
}

/// Removes workloads, and waits until they are gone.
pub(crate) async fn empty(scheduler: &KubernetesScheduler, which: impl Fn(&WorkloadId) -> bool) {
    for id in scheduler.list().await.unwrap() {
        if which(&id) {
            scheduler.remove(&id).await.unwrap();
        }
    }
    let gone = async {
        while scheduler.list().await.unwrap().iter().any(&which) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

fn of(application: &ApplicationKey) -> String {
    format!(
        "tappaas.dev/environment={},tappaas.dev/application={}",
        application.environment, application.name
    )
}

fn image() -> Image {
    let facts = facts();
    let (repository, digest) = facts["image"].as_str().unwrap().split_once('@').unwrap();
    Image {
        repository: repository.parse().unwrap(),
        digest: digest.parse().unwrap(),
    }
}

#[async_trait]
impl SchedulerFixture for Node {
    fn scheduler(&self) -> Arc<dyn Scheduler> {
        self.scheduler.clone()
    }

    async fn template(&self, program: &Program) -> Template {
        let seconds = |time: &Duration| format!("{}ms", time.as_millis());
        let words = match program {
            Program::Idle => vec!["idle".to_owned()],
            Program::Serve { name, latency } => {
                vec!["serve".to_owned(), name.clone(), seconds(latency)]
            }
            Program::ServeElsewhere(port) => vec!["serve-elsewhere".to_owned(), port.to_string()],
            Program::PrintVariable(name) => vec!["print".to_owned(), name.clone()],
            Program::Exit(code) => vec!["exit".to_owned(), code.to_string()],
            Program::IgnoreStop => vec!["ignore-stop".to_owned()],
            Program::SlowStop(time) => vec!["slow-stop".to_owned(), seconds(time)],
            Program::EatMemory => vec!["eat-memory".to_owned()],
        };
        let program = ["/program".to_owned()].into_iter().chain(words);
        Template {
            image: self.image.clone(),
            command: Some(Command::Exec(program.collect())),
            environment: BTreeMap::new(),
            ports: Vec::new(),
            resources: Default::default(),
            probes: Default::default(),
            stop: Default::default(),
            restart: RestartPolicy::Never,
            user: Default::default(),
            mounts: Vec::new(),
            peers: Vec::new(),
            placement: Default::default(),
        }
    }

    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<String, Failure> {
        let Endpoint::Service { host, port } = endpoint else {
            return Err(Failure::from(format!("{endpoint:?} is no service")));
        };
        let asking = async {
            let mut stream = TcpStream::connect(self.address(host, *port).await?).await?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            match answer.split_once("\r\n\r\n") {
                Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
                _ => Err(Failure::from(answer)),
            }
        };
        tokio::time::timeout(Duration::from_secs(5), asking).await?
    }

    fn fetch(&self, host: &str, port: u16) -> Vec<String> {
        vec!["fetch".to_owned(), format!("{host}:{port}")]
    }

    async fn secret(&self, value: &str) -> Option<SecretReference> {
        let application: ApplicationKey = "conformance/default/test/app".parse().unwrap();
        let (environment, unlimited) = (application.scope(), Limits::default());
        let prepared = self.scheduler.prepare(&environment, &unlimited);
        let namespace = prepared.await.unwrap().unwrap();
        let secrets: Api<Secret> = Api::namespaced(self.client.0.clone(), &namespace);
        let (name, key) = ("conformance", "value");
        let secret = json!({ "metadata": { "name": name }, "stringData": { key: value } });
        let secret = serde_json::from_value(secret).unwrap();
        match secrets.create(&PostParams::default(), &secret).await {
            // Of an earlier case, or run.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            made => drop(made.unwrap()),
        }
        Some(format!("secret://kubernetes/{name}#{key}").parse().unwrap())
    }

    async fn volume(&self) -> Option<VolumeId> {
        let id = VolumeId {
            application: "conformance/default/test/app".parse().unwrap(),
            name: Name::new("data").unwrap(),
        };
        let volume = Volume {
            id: id.clone(),
            size: None,
        };
        let storage = self.storage.get_or_init(Storage::new).await;
        storage.volumes.apply(&volume).await.unwrap();
        Some(id)
    }
}
