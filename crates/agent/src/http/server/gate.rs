//! The gate that every call goes through: its time is taken, its outcome counted, and who may not make it is turned
//! away.
//!
//! One layer by hand instead of three functions: each of axum's copies the routes below it and puts its future on the
//! heap, for every request, and a long poll holds all of that while it waits.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::response::Response;
use futures_util::future::Either;
use tower::{Layer, Service};

use super::measure::Measures;
use super::{App, authorize, measure, rebinding};

/// Puts the gate in front of a route.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) app: Arc<App>,
    pub(super) measures: Arc<Measures>,
}

/// A route behind the gate.
#[derive(Clone)]
pub(super) struct Gated<S> {
    gate: Gate,
    route: S,
}

/// A call that has passed the gate, or was refused.
pub(super) struct Passage<F> {
    measures: Arc<Measures>,
    started: Instant,
    call: Option<MatchedPath>,
    answer: Either<Ready<Answer>, F>,
}

type Answer = Result<Response, Infallible>;

impl Gate {
    /// Why a request goes no further.
    fn refusal(&self, request: &mut Request) -> Option<Response> {
        let octets = measure::refusal(&self.measures, request.headers());
        let stranger = || rebinding::refusal(&self.app, request);
        octets.or_else(stranger).or_else(|| authorize::refusal(&self.app, request))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, route: S) -> Gated<S> {
        Gated { gate: self.clone(), route }
    }
}

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Passage<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Passage<S::Future> {
        let started = Instant::now();
        let call = request.extensions().get().cloned();
        let answer = match self.gate.refusal(&mut request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.route.call(request)),
        };
        Passage { measures: Arc::clone(&self.gate.measures), started, call, answer }
    }
}

impl<F: Future<Output = Answer> + Unpin> Future for Passage<F> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Ok(response) = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        self.measures.count(self.call.as_ref(), self.started, &response);
        Poll::Ready(Ok(response))
    }
}
