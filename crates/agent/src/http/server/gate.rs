//! The gate in front of every call: it takes the time, counts the outcome, and turns away callers that may not make
//! the call.
//!
//! There is one layer, written by hand, instead of three functions: each layer of axum copies the routes below it and
//! puts its future on the heap, for every request, and a long poll holds all of that while it waits. Each route has a
//! layer of its own that holds the [`Call`] of the route, so nothing is looked up for a request.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use dunlin_shell::metrics::Observer;
use futures_util::future::Either;
use tower::{Layer, Service};

use super::measures::{Measure, Measures};
use super::rights::Rights;
use super::{BodyLimit, Call, OwnNames, Reason, Refusal, Right};
use crate::access::Access;

/// Makes the gates of all calls. Cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::http) struct Gate(Arc<Rules>);

/// What holds for every call.
#[derive(Debug)]
struct Rules {
    rights: Rights,
    names: OwnNames,
    max_header_octets: usize,
    measures: Measures,
}

impl Gate {
    /// Gates by these rules, shown in the metrics.
    pub(in crate::http) fn new(
        observer: &Observer,
        access: Access,
        names: OwnNames,
        max_header_octets: usize,
    ) -> Self {
        let (rights, measures) = (Rights::register(observer, access), Measures::register(observer));
        Self(Arc::new(Rules { rights, names, max_header_octets, measures }))
    }

    /// The layer for the route of a call.
    pub(in crate::http) fn call(&self, call: Call) -> GateLayer {
        self.layer_for(call, call.right)
    }

    /// Refuses the methods that a path does not take; merge it with the methods that it takes. The right is asked for
    /// all the same, so that only callers with it learn what there is: reading for GET and HEAD, the call's own for
    /// other methods, which would change something.
    pub(in crate::http) fn no_such_method<S>(&self, call: Call) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let refuse = async move |method: Method, uri: Uri| {
            call.dialect.refuse(&Refusal::no_such_method(&method, &uri))
        };
        MethodRouter::new().fallback(refuse).layer(self.fallback(call))
    }

    /// Refuses every method: the fallback for paths that do not exist. Rights as for [`Gate::no_such_method`].
    pub(in crate::http) fn no_such_call(&self, call: Call) -> MethodRouter {
        let refuse = async move |method: Method, uri: Uri| {
            call.dialect.refuse(&Refusal::no_such_call(&method, &uri))
        };
        any(refuse).layer(self.fallback(call))
    }

    fn fallback(&self, call: Call) -> GateLayer {
        let is_open = call.right == Right::Nothing;
        self.layer_for(call, if is_open { Right::Nothing } else { Right::Read })
    }

    fn layer_for(&self, call: Call, safe_right: Right) -> GateLayer {
        let measure = self.0.measures.of(call.metric);
        GateLayer(Arc::new(RouteGate { rules: Arc::clone(&self.0), call, safe_right, measure }))
    }
}

/// The layer in front of one route.
#[derive(Debug, Clone)]
pub(in crate::http) struct GateLayer(Arc<RouteGate>);

/// What one gate checks and counts.
#[derive(Debug)]
struct RouteGate {
    rules: Arc<Rules>,
    call: Call,
    /// What GET and HEAD need.
    safe_right: Right,
    measure: Measure,
}

impl RouteGate {
    /// Why a request goes no further. One that does carries what the handler needs as extensions.
    fn refusal(&self, request: &mut Request) -> Option<Refusal> {
        let Rules { rights, names, max_header_octets, measures: _ } = &*self.rules;
        let is_safe = matches!(*request.method(), Method::GET | Method::HEAD);
        let right = if is_safe { self.safe_right } else { self.call.right };
        let refusal = too_large(request.headers(), *max_header_octets)
            .or_else(|| names.refusal(request))
            .or_else(|| rights.refusal(right, &self.call.credentials, request));
        if refusal.is_none() && self.call.body != BodyLimit::NONE {
            request.extensions_mut().insert(self.call.body);
        }
        refusal
    }
}

fn too_large(headers: &HeaderMap, limit: usize) -> Option<Refusal> {
    let octets: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (octets > limit).then(|| {
        let error = format!("headers: {octets} octets; at most {limit}");
        Refusal::new(Reason::HeadersTooLarge, error, "")
    })
}

impl<S> Layer<S> for GateLayer {
    type Service = Gated<S>;

    fn layer(&self, route: S) -> Gated<S> {
        Gated { gate: Arc::clone(&self.0), route }
    }
}

/// A route behind its gate.
#[derive(Debug, Clone)]
pub(in crate::http) struct Gated<S> {
    gate: Arc<RouteGate>,
    route: S,
}

type Answer = Result<Response, Infallible>;

impl<S> Service<Request> for Gated<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response;
    type Error = Infallible;
    type Future = GatedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> GatedFuture<S::Future> {
        let started = Instant::now();
        let answer = match self.gate.refusal(&mut request) {
            Some(refusal) => {
                let response = self.gate.call.dialect.refuse(&refusal);
                Either::Left(ready(Ok(response)))
            }
            None => Either::Right(self.route.call(request)),
        };
        GatedFuture { gate: Arc::clone(&self.gate), started, answer }
    }
}

/// A call that has passed the gate, or was refused.
pub(in crate::http) struct GatedFuture<F> {
    gate: Arc<RouteGate>,
    started: Instant,
    answer: Either<Ready<Answer>, F>,
}

impl<F: Future<Output = Answer> + Unpin> Future for GatedFuture<F> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let Ok(response) = std::task::ready!(Pin::new(&mut self.answer).poll(context));
        self.gate.measure.count(self.started, &response);
        Poll::Ready(Ok(response))
    }
}
