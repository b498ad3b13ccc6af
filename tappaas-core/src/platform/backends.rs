use std::sync::Arc;

use crate::{
    Error, Result, Store,
    backend::{Builder, IngressProvider, Registry, Scheduler, Volumes},
};

/// The components a platform is made of. Plain data: put together by hand or from a configuration file.
#[derive(Clone, Debug)]
pub struct Backends {
    /// Keeps the objects.
    pub store: Arc<dyn Store>,
    /// Turns source into images.
    pub builder: Arc<dyn Builder>,
    /// Keeps images.
    pub registry: Arc<dyn Registry>,
    /// Runs instances.
    pub scheduler: Arc<dyn Scheduler>,
    /// Brings requests to instances.
    pub ingress: Arc<dyn IngressProvider>,
    /// Keeps volumes.
    pub volumes: Arc<dyn Volumes>,
}

impl Backends {
    /// Refuses backends that do not fit together.
    pub(super) fn check(&self) -> Result<()> {
        let scheduler = self.scheduler.capabilities();
        let ingress = self.ingress.capabilities();
        if scheduler.dial_endpoints && !ingress.dial_endpoints {
            return Err(Error::unsupported(
                "the scheduler's instances are reached through sockets that hand over connections, which the ingress cannot open",
            ));
        }
        if !scheduler.stepwise && !scheduler.service_endpoints {
            return Err(Error::unsupported(
                "the scheduler rolls by itself, but gives its workloads no services that routes could lead to",
            ));
        }
        if scheduler.stepwise && !ingress.drains {
            return Err(Error::unsupported(
                "the scheduler is told when to stop each instance, but the ingress does not tell when an instance has drained",
            ));
        }
        let addresses = !scheduler.dial_endpoints && !scheduler.service_endpoints;
        if addresses && !ingress.address_endpoints {
            return Err(Error::unsupported(
                "the scheduler's instances are reached at addresses, which the ingress cannot open",
            ));
        }
        if self.builder.capabilities().host_stack && !scheduler.host_stack {
            return Err(Error::unsupported(
                "the builder makes images of the stack `host`, which the scheduler cannot run; give the builder another stack",
            ));
        }
        if scheduler.service_endpoints && !ingress.service_endpoints {
            return Err(Error::unsupported(
                "the scheduler's instances are reached through services of its cluster, which the ingress cannot resolve",
            ));
        }
        Ok(())
    }
}
