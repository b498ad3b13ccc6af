use std::collections::{BTreeMap, BTreeSet};

use super::{Caller, Hold, Snapshot, Unreached, routes, template};
use crate::{
    Chain, Kind, ListRequest, Name, Object, Result, Scope,
    backend::{PeerAddress, RouteId, VolumeId, WorkloadId, WorkloadStatus},
    client::Reference,
    controller::{Context, allotment::NO_SHARE, environment::LIMITS_UNSUPPORTED},
    model::{
        Application, ApplicationKey, ApplicationSpec, Build, BuildObjectSpec, Environment,
        EnvironmentSpec, Host, HostClaim, HostClaimSpec, Limits, Operation, OperationSpec, Release,
        ReleasePhase, ReleaseSpec,
    },
};

type Peers = BTreeMap<(u64, Name), Result<PeerAddress, Unreached>>;

impl Context {
    /// Reads everything that a plan for an application depends on. `None` if there is no such application.
    pub(crate) async fn snapshot(&self, key: &ApplicationKey) -> Result<Option<Snapshot>> {
        let scope = key.scope();
        let Some(application) = self
            .client
            .get::<ApplicationSpec>(&scope, key.name.as_str())?
        else {
            return Ok(None);
        };
        self.snapshot_of(key, application).await.map(Some)
    }

    /// As [`Context::snapshot`], of an application that need not be stored.
    pub(crate) async fn snapshot_of(
        &self,
        key: &ApplicationKey,
        application: Application,
    ) -> Result<Snapshot> {
        let scheduler = self.backends.scheduler.capabilities();
        let mut snapshot = Snapshot {
            key: key.clone(),
            releases: self.releases(key),
            builds: self.builds(key),
            operations: self.open_operations(key),
            workloads: BTreeMap::new(),
            remains: BTreeSet::new(),
            routes: BTreeMap::new(),
            volumes: Vec::new(),
            claims: BTreeMap::new(),
            peers: BTreeMap::new(),
            callers: Vec::new(),
            callers_missing: false,
            callers_leaving: false,
            limits: self.limits(key)?,
            hold: self.hold(key)?,
            domains: self.domains(key)?,
            quotas: scheduler.quotas,
            autoscaling: scheduler.autoscaling && !scheduler.stepwise,
            sources: self.backends.builder.capabilities().sources,
            secret_store: scheduler.secrets,
            stepwise: scheduler.stepwise,
            redirect: routes::redirect(&self.backends.ingress.capabilities()),
            now: self.clock.now(),
            settings: self.settings.clone(),
            application,
        };
        snapshot.volumes = self.volumes(&snapshot).await?;
        snapshot.claims = self.claims(&snapshot)?;
        self.callers(&mut snapshot).await?;
        snapshot.workloads = self.workloads(&snapshot).await?;
        snapshot.peers = self.peers(&snapshot).await;
        snapshot.remains = self.remains(&snapshot).await?;
        snapshot.routes = self.routes(&snapshot).await?;
        Ok(snapshot)
    }

    /// What may be taken in the environment of an application; one that is not known yet limits nothing.
    pub(crate) fn limits(&self, key: &ApplicationKey) -> Result<Limits> {
        let scope = Scope::project(key.tenant.clone(), key.project.clone());
        let environment = self
            .client
            .get::<EnvironmentSpec>(&scope, key.environment.as_str())?;
        Ok(environment
            .map(|found| found.spec.limits)
            .unwrap_or_default())
    }

    /// Why nothing new runs in the environment of an application.
    pub(crate) fn hold(&self, key: &ApplicationKey) -> Result<Option<Hold>> {
        let inside = key.scope();
        let limits = self.limits(key)?;
        let refused = |reason, message| Hold {
            reason,
            message,
            waits: false,
        };
        if let Some(why) = self.unsupported(&inside, &limits)? {
            return Ok(Some(refused(LIMITS_UNSUPPORTED, why)));
        }
        let holders = self.holders(&inside)?;
        if holders.is_empty() {
            return Ok(None);
        }
        let around = Scope::project(key.tenant.clone(), key.project.clone());
        let environment = self
            .client
            .get::<EnvironmentSpec>(&around, key.environment.as_str())?;
        let given = environment.as_ref().map(|found| found.status.limits);
        let given = given.unwrap_or_default();
        if holders.iter().all(|holder| holder.has_share(&given)) {
            return Ok(None);
        }
        Ok(Some(match environment.as_ref().and_then(without_share) {
            Some(why) => refused(NO_SHARE, format!("the environment has no share: {why}")),
            None => Hold {
                reason: NO_SHARE,
                message: "its environment waits for its share of the limits".to_owned(),
                waits: true,
            },
        }))
    }

    pub(crate) fn releases(&self, key: &ApplicationKey) -> Vec<Release> {
        let mut releases = self.client.naming::<ReleaseSpec>(&key.scope(), &of(key));
        releases.sort_by_key(|release| release.spec.version);
        releases
    }

    /// As [`Context::releases`], but as the store has them now: for decisions about destruction, since a cache may lag.
    pub(crate) async fn stored_releases(&self, key: &ApplicationKey) -> Result<Vec<Release>> {
        let mut request = ListRequest::new(Kind::Release, key.scope());
        let mut releases = Vec::new();
        loop {
            let page = self.store.list(&request).await?;
            // One of another application that cannot be read is no matter of this one.
            let named = |object: &&Object| object.spec["application"] == key.name.as_str();
            for object in page.objects.iter().filter(named) {
                releases.push(Release::from_object(object)?);
            }
            request.after = page.next;
            if request.after.is_none() {
                releases.sort_by_key(|release| release.spec.version);
                return Ok(releases);
            }
        }
    }

    pub(crate) fn builds(&self, key: &ApplicationKey) -> Vec<Build> {
        let mut builds = self
            .client
            .naming::<BuildObjectSpec>(&key.scope(), &of(key));
        builds.sort_by_key(|build| build.spec.number);
        builds
    }

    pub(crate) fn open_operations(&self, key: &ApplicationKey) -> Vec<Operation> {
        let mut operations = self.client.naming::<OperationSpec>(&key.scope(), &of(key));
        operations.retain(|operation| !operation.status.state.ended());
        operations
    }

    /// A claim that cannot be read is no free host, nor one that is lost.
    fn claims(&self, snapshot: &Snapshot) -> Result<BTreeMap<Host, ApplicationKey>> {
        let wanted: BTreeSet<Host> = snapshot
            .releases
            .iter()
            .flat_map(|release| routes::hosts(snapshot, release))
            .collect();
        let held = snapshot.application.status.hosts.iter().cloned();
        let hosts = wanted.into_iter().chain(held);
        let claim = |host: Host| -> Result<Option<(Host, ApplicationKey)>> {
            let claim: Option<HostClaim> = self
                .client
                .get::<HostClaimSpec>(&Scope::cluster(), &host.claim())?;
            Ok(claim.map(|claim| (host, claim.spec.application)))
        };
        hosts.filter_map(|host| claim(host).transpose()).collect()
    }

    /// Asks where the bindings of the releases that run or may run are reached. One that leads nowhere is the matter of its release alone.
    async fn peers(&self, snapshot: &Snapshot) -> Peers {
        let mut peers = Peers::new();
        if snapshot.application.metadata.deletion.is_some() {
            return peers;
        }
        let current = snapshot.current().map(|release| release.spec.version);
        let runs = |version| {
            let mut workloads = snapshot.workloads.values();
            Some(version) == current || workloads.any(|w| w.counts.contains_key(&version))
        };
        let all = snapshot.releases.iter();
        for release in all.filter(|r| !r.status.phase.ended() || runs(r.spec.version)) {
            for (name, binding) in &release.spec.content.bindings {
                let peer = template::peer(&snapshot.key, binding);
                let address = self.backends.scheduler.peer(&snapshot.key, &peer).await;
                let address = address.map_err(|error| Unreached {
                    reason: Chain(&error).to_string(),
                    passing: error.kind().retryable(),
                });
                peers.insert((release.spec.version, name.clone()), address);
            }
        }
        peers
    }

    /// Finds the applications of this environment that use this one, by their current spec and by every release that may still run.
    async fn callers(&self, snapshot: &mut Snapshot) -> Result<()> {
        let key = &snapshot.key;
        let bound = Reference::BoundTo(key.name.to_string());
        let applications = self.client.naming::<ApplicationSpec>(&key.scope(), &bound);
        let mut found = applications.iter();
        snapshot.callers_leaving = found.any(|a| a.metadata.deletion.is_some());
        let specs = applications
            .iter()
            .map(|a| (a.metadata.name.clone(), a.spec.content.bindings.clone()));
        let releases = self.client.naming::<ReleaseSpec>(&key.scope(), &bound);
        let open = releases.iter().filter(|release| self.may_run(release));
        let released = open.map(|r| {
            (
                r.spec.application.to_string(),
                r.spec.content.bindings.clone(),
            )
        });
        let mut callers = Vec::new();
        for (caller, bindings) in specs.chain(released) {
            let application = match ApplicationKey::new(&key.scope(), &caller) {
                Ok(application) => application,
                // No controller ever runs anything of it.
                Err(error) => {
                    tracing::error!(application = %key, error = %Chain(&error), "a caller without a name is left out");
                    continue;
                }
            };
            for binding in bindings
                .into_values()
                .filter(|binding| binding.application == key.name)
            {
                let peer = template::peer(key, &binding);
                match self.backends.scheduler.peer(&application, &peer).await {
                    Ok(address) => callers.push(Caller {
                        application: application.clone(),
                        process: binding.process,
                        port: binding.port,
                        address,
                    }),
                    // Its own release says so, too.
                    Err(error) => {
                        snapshot.callers_missing |= error.kind().retryable();
                        tracing::info!(application = %key, caller = %application, error = %Chain(&error), "a caller is left out");
                    }
                }
            }
        }
        for caller in callers {
            if !snapshot.callers.contains(&caller) {
                snapshot.callers.push(caller);
            }
        }
        Ok(())
    }

    async fn remains(&self, snapshot: &Snapshot) -> Result<BTreeSet<WorkloadId>> {
        if snapshot.application.metadata.deletion.is_none() {
            return Ok(BTreeSet::new());
        }
        let mut all = self.backends.scheduler.list().await?;
        all.retain(|id| id.application == snapshot.key);
        Ok(all.into_iter().collect())
    }

    /// Those there are, where a release that is to be prepared needs any: a listing takes long where there are many.
    async fn volumes(&self, snapshot: &Snapshot) -> Result<Vec<VolumeId>> {
        let needs = |release: &Release| {
            release.status.phase == ReleasePhase::Pending
                && !release.spec.content.volumes.is_empty()
        };
        if !snapshot.releases.iter().any(needs) {
            return Ok(Vec::new());
        }
        let mut all = self.backends.volumes.list().await?;
        all.retain(|volume| volume.application == snapshot.key);
        Ok(all)
    }

    async fn workloads(&self, snapshot: &Snapshot) -> Result<BTreeMap<WorkloadId, WorkloadStatus>> {
        let known = snapshot.application.status.processes.keys().cloned();
        let open = snapshot
            .releases
            .iter()
            .filter(|release| !release.status.phase.ended());
        let wanted = open
            .chain(snapshot.current())
            .flat_map(|release| template::processes(release).into_keys());
        // What it wrote stays readable after it has ended; that there is one at all the status says, too.
        let commands = snapshot.releases.iter().map(template::release_command);
        let release = match commands.flatten().next() {
            Some(_) => Some(Name::new(template::RELEASE_PROCESS)?),
            None => None,
        };
        let names: BTreeSet<Name> = known.chain(wanted).chain(release).collect();
        let mut workloads = BTreeMap::new();
        for name in names {
            let id = routes::workload(snapshot, &name);
            if let Some(status) = self.backends.scheduler.observe(&id).await? {
                workloads.insert(id, status);
            }
        }
        Ok(workloads)
    }

    async fn routes(
        &self,
        snapshot: &Snapshot,
    ) -> Result<BTreeMap<RouteId, crate::backend::RouteStatus>> {
        let known = snapshot.application.status.routes.iter().cloned();
        let serving = routes::Serving::new();
        let wanted = snapshot
            .releases
            .iter()
            .flat_map(|release| routes::desired(snapshot, Some(release), &serving));
        let names: BTreeSet<Name> = known.chain(wanted.map(|route| route.id.name)).collect();
        let mut routes = BTreeMap::new();
        for name in names {
            let id = RouteId {
                application: snapshot.key.clone(),
                name,
            };
            if let Some(status) = self.backends.ingress.observe(&id).await? {
                routes.insert(id, status);
            }
        }
        Ok(routes)
    }

    /// Says whether instances of a release run or will.
    fn may_run(&self, release: &Release) -> bool {
        let scope = release.metadata.scope();
        let application = self
            .client
            .get::<ApplicationSpec>(&scope, release.spec.application.as_str());
        let current = application
            .ok()
            .flatten()
            .and_then(|application| application.status.current);
        !release.status.phase.ended() || current == Some(release.spec.version)
    }
}

fn of(key: &ApplicationKey) -> Reference {
    Reference::Of(key.name.to_string())
}

/// Why an environment as it is was given no share.
fn without_share(environment: &Environment) -> Option<&str> {
    let generation = environment.metadata.generation;
    let mut known = environment.status.conditions.iter();
    let refused = known.find(|it| it.reason == NO_SHARE && it.observed_generation == generation);
    refused.map(|it| it.message.as_str())
}
