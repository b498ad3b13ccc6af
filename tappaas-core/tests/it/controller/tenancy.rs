//! Tenants and projects, and the domain pools that their hosts come from.

use tappaas_core::{
    Digest, ErrorKind, Metadata, Scope,
    model::{
        ApplicationKey, Condition, DomainPool, DomainPoolSpec, Environment, EnvironmentSpec,
        Limits, OperationState, Project, ProjectSpec, RouteSpec, Source, Spec, Tenant, TenantSpec,
        Truth, Typed,
    },
    platform::Deployment,
};

use super::world::{World, content, name, scope};

fn instances(most: u32) -> Limits {
    Limits {
        instances: Some(most),
        ..Limits::default()
    }
}

fn project() -> Scope {
    scope().parent().unwrap()
}

/// Makes an environment of the default project that asks for so many instances.
async fn environment(world: &World, name: &str, most: u32) {
    let limits = instances(most);
    let environment = Environment::new(Metadata::new(&project(), name), EnvironmentSpec { limits });
    world.platform.client().create(&environment).await.unwrap();
}

async fn give(world: &World, name: &str, most: u32) {
    let change = |environment: &mut Environment| {
        environment.spec.limits = instances(most);
        Ok(())
    };
    let client = world.platform.client();
    client.modify(&project(), name, change).await.unwrap();
}

async fn limited_tenant(world: &World, most: u32) {
    let spec = TenantSpec {
        limits: instances(most),
    };
    let tenant = Tenant::new(Metadata::new(&Scope::cluster(), "default"), spec);
    world.platform.client().create(&tenant).await.unwrap();
}

/// Waits until an object's only condition has a reason.
async fn told<S: Spec>(
    world: &World,
    scope: &Scope,
    name: &str,
    reason: &str,
    conditions: fn(Typed<S>) -> Vec<Condition>,
) -> Condition {
    let client = world.platform.client();
    world
        .until(&format!("{name} says {reason}"), || {
            let found = client.get::<S>(scope, name).unwrap()?;
            let mut known = conditions(found).into_iter();
            known.find(|one| one.reason == reason)
        })
        .await
}

async fn environment_told(world: &World, name: &str, reason: &str) -> Condition {
    let conditions = |it: Environment| it.status.conditions;
    told::<EnvironmentSpec>(world, &project(), name, reason, conditions).await
}

async fn tenant_told(world: &World, reason: &str) -> Condition {
    let conditions = |it: Tenant| it.status.conditions;
    told::<TenantSpec>(world, &Scope::cluster(), "default", reason, conditions).await
}

#[tokio::test(start_paused = true)]
async fn an_environment_gets_its_share_of_what_its_tenant_has_and_no_more() {
    let world = World::new().await;
    world.guard.keep_limits();
    world.healthy("web", content("v1"), 1).await;
    limited_tenant(&world, 5).await;
    let unshared = environment_told(&world, "production", "NoShare").await;
    assert_eq!(unshared.status, Truth::False);
    assert!(unshared.message.contains("`limits.instances`"));
    let refused = world.deployed("web", content("v2"), 1).await;
    assert_eq!(refused.status.state, OperationState::Failed);
    assert!(
        refused
            .status
            .message
            .contains("the environment has no share: ")
    );
    // What ran goes on.
    assert_eq!(world.counts("web").await, [(1, 1)].into());

    give(&world, "production", 3).await;
    environment_told(&world, "production", "Prepared").await;
    environment(&world, "staging", 3).await;
    let beyond = environment_told(&world, "staging", "NoShare").await;
    assert!(
        beyond
            .message
            .contains("the 2 that tenant default has left of 5")
    );
    let deployed = world.deployed("web", content("v3"), 1).await;
    assert_eq!(deployed.status.state, OperationState::Succeeded);

    // What one gives back another gets.
    give(&world, "production", 2).await;
    environment_told(&world, "staging", "Prepared").await;
    tenant_told(&world, "Kept").await;
    let client = world.platform.client();
    world
        .until("the sum is told", || {
            let tenant = client
                .get::<TenantSpec>(&Scope::cluster(), "default")
                .unwrap();
            (tenant?.status.allotted == instances(5)).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn environments_that_come_at_once_are_not_given_more_than_there_is() {
    let world = World::new().await;
    world.guard.keep_limits();
    limited_tenant(&world, 4).await;
    let names: Vec<_> = (0..10).map(|i| format!("e{i}")).collect();
    futures::future::join_all(names.iter().map(|name| environment(&world, name, 1))).await;
    let client = world.platform.client();
    let with = |reason: &str| {
        let found = client.list::<EnvironmentSpec>(&project());
        let is = |it: &&Environment| it.status.conditions.iter().any(|it| it.reason == reason);
        found.iter().filter(is).count()
    };
    // Production asks for nothing, and gets that.
    world
        .until("everyone has an answer", || {
            (with("Prepared") == 4 && with("NoShare") == 7).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn limits_that_become_less_than_what_was_given_take_nothing_away() {
    let world = World::new().await;
    world.guard.keep_limits();
    give(&world, "production", 4).await;
    environment_told(&world, "production", "Prepared").await;
    limited_tenant(&world, 3).await;
    let debt = tenant_told(&world, "Overdrawn").await;
    assert_eq!(
        debt.message,
        "limits.instances is 3, and 4 was given out before"
    );
    let deployed = world.deployed("web", content("v1"), 1).await;
    assert_eq!(deployed.status.state, OperationState::Succeeded);
    give(&world, "production", 3).await;
    tenant_told(&world, "Kept").await;
}

#[tokio::test(start_paused = true)]
async fn limits_of_a_tenant_that_are_not_kept_are_said_and_nothing_new_runs() {
    let world = World::new().await;
    limited_tenant(&world, 3).await;
    tenant_told(&world, "LimitsUnsupported").await;
    let told = environment_told(&world, "production", "LimitsUnsupported").await;
    assert!(
        told.message
            .ends_with("take `limits` out of tenant default")
    );
    let refused = world.deployed("web", content("v1"), 1).await;
    assert_eq!(refused.status.state, OperationState::Failed);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_and_a_project_stay_until_nothing_is_in_them() {
    let world = World::new().await;
    let client = world.platform.client();
    let tenant = Tenant::new(
        Metadata::new(&Scope::cluster(), "default"),
        TenantSpec::default(),
    );
    let tenant = client.create(&tenant).await.unwrap();
    let around = Scope::tenant(name("default"));
    let project = Project::new(Metadata::new(&around, "default"), ProjectSpec::default());
    let project = client.create(&project).await.unwrap();
    tenant_told(&world, "Kept").await;
    let conditions = |it: Project| it.status.conditions;
    let project_told = |reason| told::<ProjectSpec>(&world, &around, "default", reason, conditions);
    project_told("Kept").await;

    client.delete(&tenant.key()).await.unwrap();
    client.delete(&project.key()).await.unwrap();
    let needed = project_told("Needed").await;
    assert!(
        needed
            .message
            .ends_with("environment default/default/production does")
    );
    tenant_told(&world, "Needed").await;
    let [tenant, project, production] = ["default", "default", "production"].map(name);
    let removed = world
        .platform
        .remove_environment(&tenant, &project, &production);
    removed.await.unwrap();
    world
        .until("both are gone", || {
            let project = client.get::<ProjectSpec>(&around, "default").unwrap();
            let tenant = client
                .get::<TenantSpec>(&Scope::cluster(), "default")
                .unwrap();
            (project.is_none() && tenant.is_none()).then_some(())
        })
        .await;
}

/// Makes the environment `<tenant>/shop/production`, and a project that has a domain pool.
async fn shop(world: &World, tenant: &str, pool: &str) {
    let [tenant, shop, production] = [tenant, "shop", "production"].map(name);
    let made = world
        .platform
        .create_environment(&tenant, &shop, &production);
    made.await.unwrap();
    let spec = ProjectSpec {
        domain_pool: Some(name(pool)),
        ..ProjectSpec::default()
    };
    let project = Project::new(Metadata::new(&Scope::tenant(tenant), "shop"), spec);
    world.platform.client().create(&project).await.unwrap();
}

fn pool(base: &str, tenants: &[&str]) -> DomainPool {
    let spec = DomainPoolSpec {
        bases: vec![base.parse().unwrap()],
        tenants: tenants.iter().map(|tenant| name(tenant)).collect(),
    };
    DomainPool::new(Metadata::new(&Scope::cluster(), "pool"), spec)
}

async fn deploy(
    world: &World,
    key: &ApplicationKey,
    host: Option<&str>,
) -> tappaas_core::Result<()> {
    let mut content = content("v1");
    content.source = Source::Upload {
        repository: format!("{}/sources", key.tenant).parse().unwrap(),
        digest: Digest::of("v1"),
    };
    content.routes = host
        .iter()
        .map(|host| {
            let route = serde_json::json!({ "hosts": [host], "path": "/", "process": "web" });
            serde_json::from_value::<RouteSpec>(route).unwrap()
        })
        .collect();
    let deployment = Deployment {
        content,
        scale: Default::default(),
        autoscale: Default::default(),
    };
    world.platform.deploy(key, deployment).await.map(drop)
}

async fn hosts(world: &World, key: &ApplicationKey, wanted: &[&str]) {
    let client = world.platform.client();
    world
        .until(&format!("{key} answers at {wanted:?}"), || {
            let found =
                client.get::<tappaas_core::model::ApplicationSpec>(&key.scope(), key.name.as_str());
            let status = found.unwrap()?.status;
            let hosts: Vec<_> = status.hosts.iter().map(|host| host.as_str()).collect();
            (hosts == wanted).then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn hosts_come_from_the_projects_pool_and_wait_for_it() {
    let world = World::new().await;
    let client = world.platform.client();
    shop(&world, "acme", "pool").await;
    let web: ApplicationKey = "acme/shop/production/web".parse().unwrap();
    deploy(&world, &web, None).await.unwrap();
    let around = Scope::tenant(name("acme"));
    let conditions = |it: Project| it.status.conditions;
    let missing = told::<ProjectSpec>(&world, &around, "shop", "NoDomainPool", conditions).await;
    let application = |it: tappaas_core::model::Application| it.status.conditions;
    let refused = told(&world, &web.scope(), "web", "NoDomainPool", application).await;
    assert_eq!(refused.message, missing.message);

    let made = client
        .create(&pool("acme.example", &["acme"]))
        .await
        .unwrap();
    hosts(&world, &web, &["web.production.shop.acme.example"]).await;
    told::<ProjectSpec>(&world, &around, "shop", "Kept", conditions).await;

    // It is needed.
    client.delete(&made.key()).await.unwrap();
    let conditions = |it: DomainPool| it.status.conditions;
    let needed =
        told::<DomainPoolSpec>(&world, &Scope::cluster(), "pool", "Needed", conditions).await;
    assert!(needed.message.ends_with("project acme/shop does"));
    hosts(&world, &web, &["web.production.shop.acme.example"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_of_somebody_elses_pool_is_refused() {
    let world = World::new().await;
    let client = world.platform.client();
    client
        .create(&pool("acme.example", &["acme"]))
        .await
        .unwrap();
    shop(&world, "beta", "pool").await;
    let web: ApplicationKey = "beta/shop/production/web".parse().unwrap();
    deploy(&world, &web, Some("x.acme.example")).await.unwrap();
    let application = |it: tappaas_core::model::Application| it.status.conditions;
    let refused = told(&world, &web.scope(), "web", "ForeignHost", application).await;
    assert!(refused.message.contains("it gets none under acme.example"));
    deploy(&world, &web, None).await.unwrap();
    told(&world, &web.scope(), "web", "NoDomainPool", application).await;
    deploy(&world, &web, Some("beta.example")).await.unwrap();
    hosts(&world, &web, &["beta.example"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_pool_without_domains_is_refused_by_its_field() {
    let world = World::new().await;
    let client = world.platform.client();
    let mut empty = pool("acme.example", &[]);
    empty.spec.bases.clear();
    client.create(&empty).await.unwrap();
    let conditions = |it: DomainPool| it.status.conditions;
    let told =
        told::<DomainPoolSpec>(&world, &Scope::cluster(), "pool", "Invalid", conditions).await;
    assert!(told.message.starts_with("bases: "), "{}", told.message);
    assert_eq!(empty.spec.check().unwrap_err().kind(), ErrorKind::Invalid);
}
