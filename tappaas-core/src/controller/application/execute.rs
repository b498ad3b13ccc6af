use super::{Snapshot, Step, release_name};
use crate::{
    Error, ErrorKind, Kind, Metadata, Owner, Result, Scope,
    controller::{Context, FINALIZER},
    model::{
        ApplicationKey, BuildObjectSpec, HostClaimSpec, Operation, OperationSpec, OperationState,
        OperationVerb, Spec, Typed, VolumeObject, VolumeObjectSpec,
    },
};

impl Context {
    /// Executes one step. Executing it again changes nothing.
    pub(super) async fn execute(&self, snapshot: &Snapshot, step: Step) -> Result<()> {
        match step {
            Step::Adopt { .. } => {
                let mut application = snapshot.application.clone();
                application.metadata.finalizers.push(FINALIZER.to_owned());
                self.client.update_finalizers(&application).await.map(drop)
            }
            Step::CreateBuild(spec) => {
                let name = release_name(snapshot.key.name.as_str(), spec.number);
                self.create(owned(snapshot, name), *spec).await
            }
            Step::CancelBuild { number } => self.cancel_build(snapshot, number).await,
            Step::ClaimHost { host } => {
                let spec = HostClaimSpec {
                    application: snapshot.key.clone(),
                    host,
                };
                self.create(Metadata::new(&Scope::cluster(), spec.host.claim()), spec)
                    .await
            }
            Step::ReleaseHost { host } => self.release_host(snapshot, &host.claim()).await,
            Step::ApplyVolume(volume) => self.apply_volume(snapshot, volume).await,
            Step::CreateRelease(spec) => {
                let name = release_name(snapshot.key.name.as_str(), spec.version);
                self.create(owned(snapshot, name), *spec).await
            }
            Step::Judge { release, status } => {
                let Some(release) = snapshot.release(release) else {
                    return Err(Error::internal(format!(
                        "release {release} is not in the snapshot"
                    )));
                };
                let mut release = release.clone();
                release.status = *status;
                self.client.update_status(&release).await.map(drop)
            }
            Step::ApplyWorkload(workload) => self.backends.scheduler.apply(&workload).await,
            Step::RemoveWorkload(id) => self.backends.scheduler.remove(&id).await,
            Step::ApplyRoute(route) => self.backends.ingress.apply(&route).await,
            Step::RemoveRoute(id) => self.backends.ingress.remove(&id).await,
            Step::Report { operation, status } => {
                let found = snapshot
                    .operations
                    .iter()
                    .find(|found| found.metadata.name == operation);
                let Some(mut operation) = found.cloned() else {
                    return Ok(());
                };
                operation.status = *status;
                self.client.update_status(&operation).await.map(drop)
            }
            Step::SetStatus(status) => {
                let mut application = snapshot.application.clone();
                application.status = *status;
                self.client.update_status(&application).await.map(drop)
            }
            Step::Forget { .. } => self.forget(snapshot).await,
        }
    }

    /// Creates what has a name of its own. If it is there already, somebody was quicker, and the next plan knows what with.
    async fn create<S: Spec>(&self, metadata: Metadata, spec: S) -> Result<()> {
        let object = Typed::new(metadata, spec);
        match self.client.create(&object).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let key = object.key();
                if self.client.get::<S>(&key.scope, &key.name)?.is_none() {
                    self.client.doubt(key.kind);
                }
                // An error, since a plan that still does not know it would ask for it again and again.
                Err(Error::conflict(format!("{key} is there already")))
            }
            created => created.map(drop),
        }
    }

    async fn cancel_build(&self, snapshot: &Snapshot, number: u64) -> Result<()> {
        let name = release_name(snapshot.key.name.as_str(), number);
        let cancel = |build: &mut Typed<BuildObjectSpec>| {
            build.spec.cancelled = true;
            Ok(())
        };
        ignore(
            ErrorKind::NotFound,
            self.client
                .modify(&snapshot.key.scope(), &name, cancel)
                .await,
        )
    }

    /// Gives back a host that is ours; read again, lest a claim made since is destroyed.
    async fn release_host(&self, snapshot: &Snapshot, name: &str) -> Result<()> {
        let claim = self.client.get::<HostClaimSpec>(&Scope::cluster(), name)?;
        match claim.filter(|claim| claim.spec.application == snapshot.key) {
            Some(claim) => self.client.delete_unchanged(&claim).await,
            None => Ok(()),
        }
    }

    async fn apply_volume(
        &self,
        snapshot: &Snapshot,
        volume: crate::backend::Volume,
    ) -> Result<()> {
        let spec = VolumeObjectSpec {
            application: snapshot.key.name.clone(),
            volume: volume.id.name.clone(),
            size: volume.size,
        };
        // No owner: a volume outlives its application.
        let metadata = Metadata::new(&snapshot.key.scope(), volume_name(&volume.id));
        let object = VolumeObject::new(metadata, spec);
        match self.client.create(&object).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.check_volume(&object)?,
            created => drop(created?),
        }
        self.backends.volumes.apply(&volume).await
    }

    /// Refuses a record under the name of another one that is about something else.
    fn check_volume(&self, wanted: &VolumeObject) -> Result<()> {
        let (scope, name) = (wanted.metadata.scope(), &wanted.metadata.name);
        let found = self.client.get::<VolumeObjectSpec>(&scope, name)?;
        let same = |found: &VolumeObject| {
            let (found, wanted) = (&found.spec, &wanted.spec);
            (&found.application, &found.volume) == (&wanted.application, &wanted.volume)
        };
        match found {
            Some(found) if same(&found) => Ok(()),
            // Not in the cache yet, or gone since: the next run sees which.
            None => Err(Error::conflict(format!(
                "the record of volume {name} changes"
            ))),
            Some(found) => Err(Error::internal(format!(
                "the record {name} is of volume {} of {}, not of {} of {}",
                found.spec.volume,
                found.spec.application,
                wanted.spec.volume,
                wanted.spec.application
            ))),
        }
    }

    async fn forget(&self, snapshot: &Snapshot) -> Result<()> {
        for host in snapshot.claims.keys() {
            self.release_host(snapshot, &host.claim()).await?;
        }
        // As they were read: under their names may be those of an application made anew.
        for release in &snapshot.releases {
            ignore(
                ErrorKind::NotFound,
                self.client.delete_unchanged(release).await,
            )?;
        }
        for build in &snapshot.builds {
            ignore(
                ErrorKind::NotFound,
                self.client.delete_unchanged(build).await,
            )?;
        }
        let mut application = snapshot.application.clone();
        application
            .metadata
            .finalizers
            .retain(|finalizer| finalizer != FINALIZER);
        self.client.update_finalizers(&application).await.map(drop)
    }

    /// Ends the operations of an application that is gone.
    pub(super) async fn finish_operations(&self, key: &ApplicationKey) -> Result<()> {
        for mut operation in self.open_operations(key) {
            let spec = &operation.spec;
            operation.status.state = match spec.verb {
                OperationVerb::Destroy => OperationState::Succeeded,
                _ if spec.cancelled => OperationState::Cancelled,
                _ => OperationState::Superseded,
            };
            operation.status.message = "the application is gone".to_owned();
            operation.status.ended = Some(self.clock.now());
            self.client
                .update_status::<OperationSpec>(&Operation::clone(&operation))
                .await?;
        }
        Ok(())
    }
}

/// The name of a volume's object: readable, and with the hash of both names, which joined alone could be those of another volume.
fn volume_name(id: &crate::backend::VolumeId) -> String {
    let (application, volume) = (&id.application.name, &id.name);
    let readable: String = format!("{application}-{volume}").chars().take(50).collect();
    let hash = crate::Digest::of(format!("{application}/{volume}"));
    format!("{}-{}", readable.trim_end_matches('-'), hash.short())
}

fn owned(snapshot: &Snapshot, name: String) -> Metadata {
    let application = &snapshot.application.metadata;
    Metadata {
        owners: vec![Owner {
            kind: Kind::Application,
            name: application.name.clone(),
            uid: application.uid.clone(),
        }],
        ..Metadata::new(&snapshot.key.scope(), name)
    }
}

fn ignore<T>(kind: ErrorKind, result: Result<T>) -> Result<()> {
    match result {
        Err(error) if error.kind() != kind => Err(error),
        _ => Ok(()),
    }
}
