//! Instances, run for real: by root, and (see [`rootless`]) once more by a plain user.

mod bench;
mod commands;
mod confinement;
mod direct;
mod doctor;
mod inside;
mod lifecycle;
mod limits;
mod logs;
mod network;
mod rootless;
mod survival;
