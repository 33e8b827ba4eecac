//! The metrics, and what one request adds to them.

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

/// Up to which seconds durations are counted: those that clients of Prometheus take by default.
pub const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// 10 methods by 7 statuses at most.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug)]
pub(super) struct Families {
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
}

impl Families {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let new = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            in_flight: Gauge::default(),
        };
        registry.register("qsocket_http_requests", "Requests that are over", new.requests.clone());
        registry.register_with_unit(
            "qsocket_http_request_duration",
            "Until the body of the response ended or was dropped",
            Unit::Seconds,
            new.durations.clone(),
        );
        registry.register(
            "qsocket_http_requests_in_flight",
            "Requests that are not over",
            new.in_flight.clone(),
        );
        new
    }

    pub(super) fn begin(&self, method: &Method) -> Measure {
        self.in_flight.inc();
        let labels = Labels { method: method_label(method), status: "dropped" };
        Measure { families: self.clone(), labels, begun: Instant::now() }
    }
}

/// A request that is not over; it is when this is dropped.
#[derive(Debug)]
pub struct Measure {
    families: Families,
    labels: Labels,
    begun: Instant,
}

impl Measure {
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.labels.status = match status.as_u16() / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "other",
        };
    }

    pub(super) fn failed(&mut self) {
        self.labels.status = "error";
    }
}

impl Drop for Measure {
    fn drop(&mut self) {
        let Families { requests, durations, in_flight } = &self.families;
        in_flight.dec();
        requests.get_or_create(&self.labels).inc();
        durations.get_or_create(&self.labels).observe(self.begun.elapsed().as_secs_f64());
    }
}

/// A client may invent methods; they share a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
