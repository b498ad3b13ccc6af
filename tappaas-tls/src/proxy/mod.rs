//! The HTTP reverse proxy: client connections in, requests to endpoints out.

mod body;
mod client;
mod context;
mod forward;
mod headers;
mod host;
mod pages;
pub(crate) mod path;
mod record;
mod seating;
mod serve;
mod service;
mod tunnel;
mod vitals;

pub(crate) use client::Client;
pub(crate) use context::Context;
pub(crate) use pages::Fault;
pub(crate) use seating::Seating;
pub(crate) use serve::serve;
pub(crate) use tunnel::{Tunnel, tunnel};
