//! Performing checks: one run in, one outcome out.
//!
//! When a check runs and what its outcomes mean is decided in `dunlin_core::health`. Every run ends
//! within its timeout, holds little memory whatever the other side sends, and leaves nothing behind
//! when it is given up: connections are closed and commands killed with all their children.

mod command;
mod connect;
mod grpc;
mod http;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use dunlin_core::health::CheckOutcome;
use dunlin_core::model::{CheckKind, CheckSpec, CheckStatus, InstanceId, ServiceName};
use tokio::sync::Semaphore;
use tokio::time::timeout;

#[cfg(test)]
pub(crate) use self::connect::NoVerification;

/// One run of a check.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// The instance that is checked.
    pub instance: InstanceId,
    /// Its service.
    pub service: ServiceName,
    /// The address on which the instance listens; a check with a target of its own goes there instead.
    pub address: SocketAddr,
    /// What the check does.
    pub spec: Arc<CheckSpec>,
}

/// Runs that may be under way at the same time; further ones wait.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Runs of TCP, HTTP and gRPC checks.
    pub connections: usize,
    /// Runs of command checks.
    pub commands: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, commands: 32 }
    }
}

/// Performs runs, a bounded number at a time.
pub struct Runner {
    connections: Semaphore,
    commands: Semaphore,
    tls: connect::Tls,
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").finish_non_exhaustive()
    }
}

/// What a run found wrong, for people to read.
type Failure = String;

fn outcome(status: CheckStatus, output: impl Into<String>) -> CheckOutcome {
    CheckOutcome { status, output: output.into() }
}

impl Runner {
    /// A runner with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            connections: Semaphore::new(limits.connections),
            commands: Semaphore::new(limits.commands),
            tls: connect::Tls::default(),
        }
    }

    /// Performs one run. Drop the future to give it up.
    pub async fn run(&self, request: CheckRequest) -> CheckOutcome {
        let is_command = matches!(request.spec.kind, CheckKind::Command { .. });
        let slots = if is_command { &self.commands } else { &self.connections };
        let Ok(_slot) = slots.acquire().await else {
            return outcome(CheckStatus::Critical, "the agent is stopping");
        };
        let limit = request.spec.timeout;
        match timeout(limit, self.perform(&request)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(failure)) => outcome(CheckStatus::Critical, failure),
            Err(_) => {
                let limit = humantime::format_duration(limit);
                outcome(CheckStatus::Critical, format!("timed out after {limit}"))
            }
        }
    }

    async fn perform(&self, request: &CheckRequest) -> Result<CheckOutcome, Failure> {
        match &request.spec.kind {
            CheckKind::Tcp { target } => {
                let address = target.unwrap_or(request.address);
                connect::reset_on_close(&connect::tcp(address).await?);
                Ok(outcome(CheckStatus::Passing, format!("connected to {address}")))
            }
            CheckKind::Http(check) => http::run(check, request.address, &self.tls).await,
            CheckKind::Grpc { target, service, tls } => {
                let address = target.unwrap_or(request.address);
                grpc::run(service, address, tls.as_ref(), &self.tls).await
            }
            CheckKind::Command { argv } => command::run(argv, request).await,
            CheckKind::Ttl { .. } | CheckKind::Alias { .. } => {
                Err("this kind of check is not run; it waits to be told".to_owned())
            }
        }
    }
}
