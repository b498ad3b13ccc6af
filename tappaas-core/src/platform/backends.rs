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
        if self.builder.capabilities().host_stack && !scheduler.host_stack {
            return Err(Error::unsupported(
                "the builder makes images of the stack `host`, which the scheduler cannot run; give the builder another stack",
            ));
        }
        if !scheduler.stepwise {
            return Err(Error::unsupported(
                "schedulers that roll by themselves are not supported yet",
            ));
        }
        Ok(())
    }
}
