//! The scheduler of one machine: desired state is kept in the store, instances are sandboxes that outlive this process.

mod about;
mod admission;
mod adopt;
mod changes;
mod config;
mod confines;
mod exec;
mod ground;
mod life;
mod logs;
mod peers;
mod probe;

mod slots;
mod spec;
mod sweep;
mod table;
mod verbs;
mod world;

pub use self::{
    config::{
        CapacityConfig, Confinement, DefaultLimits, LogConfig, NetworkConfig, SchedulerConfig,
    },
    confines::Confines,
    verbs::Scheduler,
};
