//! The agent and the uninstall hook against a real API server, with the chart's accounts, rights and admission policy.
//! Only the jobs on the node are fake: the tests of a whole cluster (tests/cluster) run real ones.
//!
//! `make test-api` starts the server, installs the chart on it and runs these tests one after another: they share the
//! chart's ConfigMap and Lease.

mod fake_node;
mod label;
mod leases;
mod prewarm;
mod rights;
mod server;
mod uninstall;
