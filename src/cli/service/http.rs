//! HTTP: metrics, status, probes, and the live page. Nothing here changes anything.

use std::net::TcpListener;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::Shared;

const PAGE: &str = include_str!("page.html");
/// Nothing comes from elsewhere, and nobody may put the page into a frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Serves until the runtime ends.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/status.json", get(status))
        .route("/history.json", get(history))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .with_state(shared);
    let served = async { axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await };
    if let Err(error) = served.await {
        tracing::error!(%error, "the HTTP server has stopped");
    }
}

type Of = State<Arc<Shared>>;

async fn page() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, PAGE).into_response()
}

async fn metrics(State(shared): Of) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.telemetry.render()).into_response()
}

async fn status(State(shared): Of) -> Response {
    match shared.status() {
        Some(status) => ([(CACHE_CONTROL, "no-store")], Json(status)).into_response(),
        None => starting(),
    }
}

async fn history(State(shared): Of) -> Response {
    let answer = shared.history().answer();
    ([(CACHE_CONTROL, "no-store")], Json(answer)).into_response()
}

/// Whether to leave the process alone: 200, or 503 with what is not well, which a restart mends.
async fn live(State(shared): Of) -> Response {
    match shared.status() {
        None => "ok: starting\n".into_response(),
        Some(status) if status.live => "ok\n".into_response(),
        Some(status) => (StatusCode::SERVICE_UNAVAILABLE, status.troubles.join("\n") + "\n").into_response(),
    }
}

/// Whether to send it work: 200, or 503 with the reason.
async fn ready(State(shared): Of) -> Response {
    let Some(status) = shared.status() else { return starting() };
    if status.ready {
        return "ok\n".into_response();
    }
    let why = if status.live {
        let cause = status.level.cause.unwrap_or_else(|| "intake is closed".to_owned());
        format!("{}: {cause}", status.level.name)
    } else {
        status.troubles.join("\n")
    };
    (StatusCode::SERVICE_UNAVAILABLE, why + "\n").into_response()
}

fn starting() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "starting: the spill log is being read\n").into_response()
}
