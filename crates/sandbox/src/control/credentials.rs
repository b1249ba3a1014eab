//! Credentials, and how users sign in.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::super::entra::{Decision, SignIns};
use super::{Answer, App, Refusal, bad, done, read, strictly};

pub(super) async fn set_secret(State(shared): App, body: Bytes) -> Answer {
    let command = read(&body)?;
    let Some(secret) = command.get("client_secret").and_then(Value::as_str) else {
        return Err(bad(r#"a secret is {"client_secret": "…"}"#));
    };
    shared.with(|engine, _| engine.entra.proofs.set_secret(secret.to_owned()));
    done()
}

pub(super) async fn register(State(shared): App, body: Bytes) -> Answer {
    let pem = String::from_utf8_lossy(&body);
    if shared.with(|engine, _| engine.entra.proofs.register(&pem)) {
        return done();
    }
    Err(bad("that is no certificate (PEM) for an RSA key"))
}

pub(super) async fn trust(State(shared): App, body: Bytes) -> Answer {
    let token = String::from_utf8_lossy(&body).trim().to_owned();
    if token.is_empty() {
        return Err(bad("the body is the token"));
    }
    shared.with(|engine, _| engine.entra.proofs.federated = Some(token));
    done()
}

pub(super) async fn set_sign_ins(State(shared): App, body: Bytes) -> Answer {
    let settings: SignIns = strictly(&read(&body)?)?;
    shared.with(|engine, _| engine.entra.users.settings = settings);
    done()
}

pub(super) async fn decide(State(shared): App, Path((code, decision)): Path<(String, String)>) -> Answer {
    let decision = match decision.as_str() {
        "approve" => Decision::Approved,
        "decline" => Decision::Declined,
        other => return Err(bad(format!("{other:?} is neither approve nor decline"))),
    };
    if shared.with(|engine, _| engine.entra.users.decide(&code, decision)) {
        return done();
    }
    Err(Refusal(StatusCode::NOT_FOUND, format!("no device waits with the code {code:?}")))
}
