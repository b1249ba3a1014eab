//! Pages on loopback that show what arrived: mails as their reader sees them, cards, webhooks.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior, context};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::inbox::{Arrival, Inbox};
use super::renderer::indented;
use crate::cli::mime;
use crate::sandbox::webhook_receiver::{Signature, WebhookRequest};

const POLICY: &str = "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";
/// A mail has its styles in itself. It runs no script and loads nothing; a link opens in a page of its own.
const MAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; frame-ancestors 'self'; \
                           sandbox allow-popups allow-popups-to-escape-sandbox";

/// The server. Dropping it stops it.
pub(super) struct Pages {
    address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Shared {
    address: SocketAddr,
    inbox: Arc<Inbox>,
    templates: Arc<Environment<'static>>,
}

impl Pages {
    pub(super) async fn serve(inbox: Arc<Inbox>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Shared { address, inbox, templates: Arc::new(templates().map_err(io::Error::other)?) };
        let router = Router::new()
            .route("/", get(index))
            .route("/style.css", get(style))
            .route("/{number}", get(arrival))
            .route("/{number}/mail.html", get(mail))
            .route("/{number}/source", get(source))
            .layer(middleware::from_fn_with_state(shared.clone(), guarded))
            .with_state(shared);
        let serving = tokio::spawn(async move { drop(axum::serve(listener, router).await) });
        Ok(Self { address, _serving: AbortOnDropHandle::new(serving) })
    }

    /// The address of the list.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The address of what arrived with this number.
    pub(super) fn url_of(&self, number: usize) -> String {
        format!("http://{}/{number}", self.address)
    }
}

fn templates() -> Result<Environment<'static>, minijinja::Error> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.add_template("layout.html", include_str!("pages/layout.html"))?;
    templates.add_template("index.html", include_str!("pages/index.html"))?;
    templates.add_template("card.html", include_str!("pages/card.html"))?;
    templates.add_template("arrival.html", include_str!("pages/arrival.html"))?;
    Ok(templates)
}

/// Refuses a request that names another host, as a page elsewhere can make a browser send.
async fn guarded(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let ours = [shared.address.to_string(), format!("localhost:{}", shared.address.port())];
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = if ours.iter().any(|ours| ours.eq_ignore_ascii_case(host)) {
        next.run(request).await
    } else {
        StatusCode::MISDIRECTED_REQUEST.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(POLICY));
    response
}

fn html(shared: &Shared, template: &str, values: Value) -> Response {
    let rendered = shared.templates.get_template(template).and_then(|template| template.render(values));
    match rendered {
        Ok(text) => ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")).into_response(),
    }
}

async fn style() -> Response {
    ([(CONTENT_TYPE, "text/css")], include_str!("pages/style.css")).into_response()
}

async fn index(State(shared): State<Shared>) -> Response {
    let rows: Vec<_> = {
        let all = shared.inbox.all();
        let rows = all.iter().enumerate().rev();
        rows.map(|(index, arrival)| {
            context! { number => index + 1, at => time(arrival), kind => kind(arrival), title => arrival.title() }
        })
        .collect()
    };
    html(&shared, "index.html", context! { rows })
}

fn kind(arrival: &Arrival) -> &'static str {
    match arrival {
        Arrival::Mail { .. } => "mail",
        Arrival::Webhook(_) => "webhook",
        Arrival::Card(service, _) => service,
    }
}

/// `09:14:03 UTC`.
fn time(arrival: &Arrival) -> String {
    arrival.at().to_string().get(11..19).map(|time| format!("{time} UTC")).unwrap_or_default()
}

async fn arrival(State(shared): State<Shared>, Path(number): Path<usize>) -> Response {
    let Some(arrival) = shared.inbox.get(number) else { return StatusCode::NOT_FOUND.into_response() };
    let more = match &arrival {
        Arrival::Mail { mail, decoded } => context! {
            from => mail.from.as_str(), to => mail.to.join(", "), text => decoded.text.as_str(), id => decoded.id.as_str(),
            has_html => mime::html(&mail.text()).is_some(),
        },
        Arrival::Webhook(request) => context! {
            headers => headers(request), body => body(request), verified => request.signature == Signature::Valid,
            signature => format!("{:?}", request.signature),
        },
        Arrival::Card(_, request) => context! { card => Serde(request.json()), body => body(request) },
    };
    let values = context! {
        number, at => time(&arrival), kind => kind(&arrival), title => arrival.title(),
        is_last => number >= shared.inbox.all().len(), ..more
    };
    html(&shared, "arrival.html", values)
}

fn headers(request: &WebhookRequest) -> Vec<(&'static str, String)> {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    names.into_iter().map(|name| (name, request.header(name).unwrap_or("-").to_owned())).collect()
}

fn body(request: &WebhookRequest) -> String {
    indented(&String::from_utf8_lossy(&request.body))
}

/// The HTML part alone.
async fn mail(State(shared): State<Shared>, Path(number): Path<usize>) -> Response {
    let Some(Arrival::Mail { mail, .. }) = shared.inbox.get(number) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(html) = mime::html(&mail.text()) else { return StatusCode::NOT_FOUND.into_response() };
    // A link that opened in the frame would be refused by the page around it.
    let html = html.replacen("<head>", "<head><base target=\"_blank\">", 1);
    ([(CONTENT_TYPE, "text/html; charset=utf-8"), (CONTENT_SECURITY_POLICY, MAIL_POLICY)], html).into_response()
}

/// What was received, byte for byte.
async fn source(State(shared): State<Shared>, Path(number): Path<usize>) -> Response {
    let bytes = match shared.inbox.get(number) {
        Some(Arrival::Mail { mail, .. }) => mail.raw,
        Some(Arrival::Webhook(request) | Arrival::Card(_, request)) => request.body,
        None => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, "text/plain; charset=utf-8")], bytes).into_response()
}
