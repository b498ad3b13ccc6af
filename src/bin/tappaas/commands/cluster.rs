//! `tappaas install --print`: what a Kubernetes cluster needs before an operator can live in it.

use anyhow::{Context as _, Result, bail};
use tappaas::k8s::{Installation, SchedulerSettings};

use crate::{cli::InstallArgs, output::Printer};

/// Prints the objects, to be applied in this order.
pub(crate) fn print(printer: Printer, args: &InstallArgs) -> Result<()> {
    // The operator would refuse to start with what this refuses.
    SchedulerSettings::new(args.cluster.gateways())
        .context("--gateway-pods or --gateway-network is needed")?;
    if args.cluster.gateway.is_none() && args.cluster.ingress_class.is_none() {
        bail!("--gateway or --ingress-class is needed: what serves the applications");
    }
    args.cluster.runtimes()?;
    let image = args.image.clone();
    let installation = Installation {
        namespace: args.namespace.clone(),
        group: args.cluster.group.clone(),
        image: image.context("--image is needed: the operator's own")?,
        arguments: args.cluster.words(),
        replicas: args.replicas,
    };
    let objects = installation.objects();
    if printer.json() {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        return printer.value(&list, |_| {});
    }
    for object in &objects {
        printer.raw(b"---\n");
        printer.raw(serde_saphyr::to_string(object)?.as_bytes());
    }
    Ok(())
}
