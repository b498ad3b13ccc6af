//! `tappaas operator`: the control plane inside of a Kubernetes cluster.

use std::{future::IntoFuture as _, sync::Arc};

use anyhow::{Context as _, Result};
use tappaas::{Operator, OperatorConfig, core::Ids as _, k8s, registry};
use tappaas_api::{Metrics, MetricsSource, admin};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{config::access, log, signalled};
use crate::{
    cli::{ClusterArgs, OperatorArgs},
    place,
};

/// Runs the operator until it is told to stop. What it deployed goes on.
pub(crate) async fn operator(args: &OperatorArgs) -> Result<()> {
    log();
    let admin = TcpListener::bind(args.admin).await;
    let admin = admin.with_context(|| {
        let address = args.admin;
        format!("cannot listen on {address} for health and metrics; choose another with --admin")
    })?;
    let access = access(args.kubeconfig.clone(), args.context.clone());
    let requests = k8s::Requests::default();
    let client = access.connect(&requests).await?;
    let operator = Arc::new(Operator::connect(client, config(args)?).await?);
    let platform = operator.platform();
    let metrics = Metrics::new(platform.client(), vec![leading(&operator), asked(requests)]);
    let figures = admin::router(platform.clone(), Arc::new(metrics));
    let stop = CancellationToken::new();
    let watching =
        axum::serve(admin, figures).with_graceful_shutdown(stop.clone().cancelled_owned());
    let watching = tokio::spawn(watching.into_future());
    tracing::info!(identity = operator.config().identity, "ready");
    let mut told = Ok(());
    Box::pin(operator.run(async { told = signalled().await })).await;
    stop.cancel();
    watching.abort();
    told?;
    tracing::info!("stopped");
    Ok(())
}

fn config(args: &OperatorArgs) -> Result<OperatorConfig> {
    let cluster = &args.cluster;
    let identity = place::identity();
    let named = args.namespace.clone().or_else(place::namespace);
    Ok(OperatorConfig {
        group: cluster.group.clone(),
        namespace: named.unwrap_or_else(|| "tappaas".to_owned()),
        identity: identity.unwrap_or_else(|| tappaas::RandomIds.unique()),
        base: cluster.base.clone(),
        scheduler: k8s::SchedulerSettings {
            runtimes: cluster.runtimes()?,
            priority_class: cluster.priority_class.clone().map(|class| class.0),
            ..k8s::SchedulerSettings::new(cluster.gateways())?
        },
        ingress: k8s::IngressSettings {
            gateway: cluster.gateway.clone().map(Into::into),
            class: cluster.ingress_class.clone(),
            settle: k8s::IngressSettings::SETTLE,
        },
        volumes: k8s::VolumeSettings {
            storage_class: cluster.storage_class.clone(),
            ..k8s::VolumeSettings::default()
        },
        registry: registries(cluster),
    })
}

fn registries(cluster: &ClusterArgs) -> Option<registry::client::Config> {
    let only = Some(cluster.tags_from.clone()).filter(|named| !named.is_empty())?;
    Some(registry::client::Config {
        only: Some(only),
        ..registry::client::Config::default()
    })
}

/// What is asked of the cluster.
pub(super) fn asked(requests: k8s::Requests) -> MetricsSource {
    MetricsSource::new("kubernetes", move || {
        let text = requests.metrics();
        async move { Ok(text) }
    })
}

/// Which of several replicas acts.
fn leading(operator: &Arc<Operator>) -> MetricsSource {
    let operator = operator.clone();
    MetricsSource::new("operator", move || {
        let leads = u8::from(operator.leads());
        async move {
            Ok(format!(
                "# HELP tappaas_operator_leads Whether this replica acts.\n# TYPE tappaas_operator_leads gauge\ntappaas_operator_leads {leads}\n"
            ))
        }
    })
}
