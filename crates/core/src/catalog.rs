//! The catalog: replicated rows and node liveness, joined into immutable views per service.
//!
//! Readers hold a [`CatalogView`] and never wait. The writer changes its own copy and publishes it;
//! a view shares everything that did not change with the one before, so a change costs the same
//! whether ten other services exist or a hundred thousand.

mod view;

pub use view::{
    CatalogView, Endpoint, GuardMark, NodeView, Scope, ServiceView, Standing, Topology,
};
