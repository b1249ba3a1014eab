//! `vetwatch check --live`: connects to Partner Center, the mail servers and the dead man's switch, step by step, until one
//! fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use url::Url;

use crate::cli::failure::error_chain;
use crate::cli::{Context, Exit, Failure};
use crate::config::{Config, EndpointKind};
use crate::delivery::email::{EmailChannel, EmailSettings, Login, LoginBy, ProbeError};
use crate::partner_center::{
    Budget, Error, Expiry, PartnerCenter, PartnerSettings, Proxy, RESOURCE, reach, tenant_issuer,
};
use crate::standby::{self, elector::Elector};
use crate::text;

/// Short, because a person waits.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// Of one port among several.
const PORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of customers tried: the first ones may have departed.
const CUSTOMERS_MAX: usize = 5;

#[derive(Debug, Clone, Serialize)]
pub(super) struct Step {
    /// `partner emea`, `mail server smtp.contoso.example:587`
    of: String,
    /// `proxy`, `dns`, `connection`, `tls`, `tenant`, `token`, `customers`, `qualification`, `rights`, `login`, `heartbeat`,
    /// `elector`, `litestream`
    #[serde(rename = "step")]
    name: String,
    ok: bool,
    /// In words; if it failed, with advice.
    text: String,
    #[serde(skip)]
    exit: Exit,
}

impl Step {
    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }

    /// True if the server's certificate is by an authority that is not known.
    pub(super) fn is_untrusted(&self) -> bool {
        self.text.contains("no authority that this machine trusts")
    }

    /// The issuer of the tenant's tokens, if this step found it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.text.rsplit_once(ISSUED_BY).map(|(_, issuer)| issuer).filter(|_| self.ok && self.name == "tenant")
    }
}

/// Begins the texts about the machine's own identity.
const MANAGED_IDENTITY: &str = "the managed identity: ";
const ISSUED_BY: &str = " issued by ";

/// Runs the steps, shows each one, and returns them all. A failing partner or server does not skip the others.
pub(super) async fn walk(context: &Context, config: &Config) -> Result<Vec<Step>, Failure> {
    let mut walk = Checker { context, of: String::new(), steps: Vec::new() };
    if !context.json {
        context.out.line("\ntrying the connections:")?;
    }
    for settings in &config.partners {
        walk.of = format!("partner {}", settings.name);
        // The failure is among the steps.
        if let Err(Stop::Output(failure)) = walk.partner(settings).await {
            return Err(failure);
        }
    }
    let mut seen = BTreeSet::new();
    for endpoint in &config.endpoints {
        let EndpointKind::Email(settings) = &endpoint.kind else { continue };
        let smtp = &settings.smtp;
        let user = smtp.login.as_ref().map(|login| match &login.by {
            LoginBy::Password(_) => (login.username.clone(), None),
            LoginBy::Token(application) => (login.username.clone(), Some(application.client_id.clone())),
        });
        if seen.insert((smtp.host.clone(), smtp.port, user)) {
            walk.of = format!("mail server {}:{}", smtp.host, smtp.port);
            if let Err(Stop::Output(failure)) = walk.mail(settings).await {
                return Err(failure);
            }
        }
    }
    if let Some(heartbeat) = &config.heartbeat {
        walk.of = heartbeat.origin();
        let outcome = heartbeat.probe().await.map(|()| "accepted".to_owned()).map_err(|why| (Exit::TryAgain, why));
        if let Err(Stop::Output(failure)) = walk.note("heartbeat", outcome) {
            return Err(failure);
        }
    }
    if let Some(settings) = &config.standby {
        "standby".clone_into(&mut walk.of);
        for (step, outcome) in
            [("elector", elector(settings).await), ("litestream", settings.litestream.version().await)]
        {
            let outcome = outcome.map_err(|why| (Exit::TryAgain, why));
            if let Err(Stop::Output(failure)) = walk.note(step, outcome) {
                return Err(failure);
            }
        }
    }
    let untried: Vec<_> = untried(config).collect();
    if !context.json && !untried.is_empty() {
        let names = untried.join(", ");
        context
            .out
            .line(&format!("\nnot tried: {names}; `vetwatch test-send --all` sends a test to every endpoint"))?;
    }
    Ok(walk.steps)
}

/// Asks who leads; takes part in nothing.
async fn elector(settings: &standby::Settings) -> Result<String, String> {
    let view = Elector::new(&settings.elector).map_err(|error| error.to_string())?.look().await;
    let view = view.map_err(|error| error.to_string())?;
    Ok(view
        .leader
        .map_or("nobody leads".to_owned(), |leader| format!("{} leads (epoch {})", leader.host, leader.epoch)))
}

/// Tries whether the login server knows the partner's tenant, and shows it.
pub(super) async fn try_tenant(context: &Context, settings: &PartnerSettings) -> Result<Vec<Step>, Failure> {
    let mut walk = Checker { context, of: format!("partner {}", settings.name), steps: Vec::new() };
    let reached = walk.reach(&settings.login_url, settings.proxy.as_ref()).await;
    let outcome = match reached {
        Ok(()) => walk.tenant(settings).await,
        Err(stop) => Err(stop),
    };
    walk.end(outcome)
}

/// Tries one partner, as [`walk`] does.
pub(super) async fn try_partner(context: &Context, settings: &PartnerSettings) -> Result<Vec<Step>, Failure> {
    let mut walk = Checker { context, of: format!("partner {}", settings.name), steps: Vec::new() };
    let outcome = walk.partner(settings).await;
    walk.end(outcome)
}

/// True if a mail server answers with this encryption, whether or not it is trusted and takes the login.
pub(super) async fn is_mail_server(context: &Context, settings: &EmailSettings) -> bool {
    let channel = EmailChannel::new(settings.clone()).with_clock(context.clock.clone()).with_deadline(PORT_TIMEOUT);
    channel.probe().await.map_or_else(|error| error.answers, |_| true)
}

/// Tries one mail server, as [`walk`] does.
pub(super) async fn try_mail(context: &Context, settings: &EmailSettings) -> Result<Vec<Step>, Failure> {
    let of = format!("mail server {}:{}", settings.smtp.host, settings.smtp.port);
    let mut walk = Checker { context, of, steps: Vec::new() };
    let outcome = walk.mail(settings).await;
    walk.end(outcome)
}

/// The endpoints to which only a message would show whether they work.
pub(super) fn untried(config: &Config) -> impl Iterator<Item = &str> {
    let is_mail = |kind: &EndpointKind| matches!(kind, EndpointKind::Email(_));
    config.endpoints.iter().filter(move |endpoint| !is_mail(&endpoint.kind)).map(|endpoint| endpoint.name.as_str())
}

/// The command's result: the first failure's exit code, and which steps failed; why was shown beside each.
pub(super) fn end(steps: &[Step]) -> Result<Exit, Failure> {
    let failed: Vec<&Step> = steps.iter().filter(|step| !step.ok).collect();
    let Some(first) = failed.first() else { return Ok(Exit::Done) };
    let advice = match first.exit {
        _ if first.text.contains(MANAGED_IDENTITY) => {
            "it is as the step says; docs/registering.md describes managed identities"
        }
        _ if first.name == "tenant" => "compare the tenant with the overview of your directory in Entra ID",
        Exit::Refused => {
            "the server was reached and refused: check the credential, and the permissions of the application"
        }
        Exit::Configuration => "correct the configuration, or the file that it names",
        Exit::Failed | Exit::NotFound => {
            "a server answers, but not as Partner Center does: check api_url and the proxy"
        }
        _ => "check DNS, the firewall, the proxy (only that of the configuration is used) and this machine's clock",
    };
    let names: Vec<_> = failed.iter().map(|step| format!("{}: {}", step.of, step.name)).collect();
    let count = if failed.len() == 1 { "1 step".to_owned() } else { format!("{} steps", failed.len()) };
    Err(Failure::new(first.exit, format!("{count} failed")).because(names.join("; ")).advise(advice))
}

/// Why the check stops.
enum Stop {
    /// A step failed, and the later ones depend on it.
    Step,
    Output(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Output(failure)
    }
}

struct Checker<'c> {
    context: &'c Context,
    of: String,
    steps: Vec<Step>,
}

impl Checker<'_> {
    fn note(&mut self, step: &str, outcome: Result<String, (Exit, String)>) -> Result<(), Stop> {
        let (ok, exit, text) = match outcome {
            Ok(text) => (true, Exit::Done, text),
            Err((exit, text)) => (false, exit, text),
        };
        if !self.context.json {
            let style = self.context.out.style;
            let word = if ok { style.good("ok    ") } else { style.bad("FAILED") };
            self.context.out.line(&format!(
                "  {}  {step:13} {word}  {}",
                text::terminal(&self.of),
                text::terminal(&text)
            ))?;
        }
        self.steps.push(Step { of: self.of.clone(), name: step.to_owned(), ok, text, exit });
        if ok { Ok(()) } else { Err(Stop::Step) }
    }

    fn end(self, outcome: Result<(), Stop>) -> Result<Vec<Step>, Failure> {
        match outcome {
            Err(Stop::Output(failure)) => Err(failure),
            // A failure is among the steps.
            Ok(()) | Err(Stop::Step) => Ok(self.steps),
        }
    }

    async fn tenant(&mut self, settings: &PartnerSettings) -> Result<(), Stop> {
        let PartnerSettings { login_url, tenant, proxy, .. } = settings;
        let known = tenant_issuer(login_url, tenant, proxy.as_ref(), self.context.clock.clone()).await;
        let outcome = known.map(|issuer| format!("{tenant} is known; its tokens are{ISSUED_BY}{issuer}"));
        let exit = |refused| if refused { Exit::Refused } else { Exit::TryAgain };
        self.note("tenant", outcome.map_err(|(refused, why)| (exit(refused), why)))
    }

    async fn partner(&mut self, settings: &PartnerSettings) -> Result<(), Stop> {
        let mut hosts: Vec<&Url> = vec![&settings.login_url, &settings.api_url];
        hosts.dedup_by_key(|url| url.origin());
        for url in hosts {
            self.reach(url, settings.proxy.as_ref()).await?;
        }
        let client = self.client(settings)?;
        let token = client.sign_in().await.map_err(|error| refused(&error)).map(|()| self.token(settings));
        self.note("token", token)?;
        let page = client.customers(None).await;
        let customers = page.map(|page| {
            let more = if page.next.is_some() { "; more pages follow" } else { "" };
            let count = page.customers.len();
            let customers = if count == 1 { "customer" } else { "customers" };
            (format!("the first page has {count} {customers}{more}"), page.customers)
        });
        let (text, listed) = match customers {
            Ok((text, listed)) => (Ok(text), listed),
            Err(error) => {
                let (exit, mut text) = refused(&error);
                let is_elsewhere = !settings.api_url.as_str().starts_with(RESOURCE);
                if is_elsewhere && is_not_the_apis(&error) {
                    text.push_str(
                        "; check api_url: the commercial cloud's is https://api.partnercenter.microsoft.com/",
                    );
                }
                (Err((exit, text)), Vec::new())
            }
        };
        self.note("customers", text)?;
        let ids: Vec<String> = listed.into_iter().take(CUSTOMERS_MAX).map(|customer| customer.id).collect();
        let outcome = qualification(&client, &ids).await;
        self.note("qualification", outcome)?;
        self.rights(settings, ids.first()).await
    }

    async fn reach(&mut self, url: &Url, proxy: Option<&Proxy>) -> Result<(), Stop> {
        let host = url.host_str().unwrap_or_default();
        let by = proxy.map(|proxy| format!(", by the proxy {proxy}")).unwrap_or_default();
        let (step, outcome) = match reach(url, proxy).await {
            Ok(()) if url.scheme() == "https" => {
                ("tls", Ok(format!("{host}: resolved, connected, certificate trusted{by}")))
            }
            Ok(()) => ("connection", Ok(format!("{host}: resolved, connected; plain http"))),
            Err((stage, why)) => (stage.as_str(), Err((Exit::TryAgain, format!("{host}: {why}")))),
        };
        self.note(step, outcome)
    }

    /// Checks rights beyond reading, as far as possible without using them.
    async fn rights(&mut self, settings: &PartnerSettings, customer: Option<&String>) -> Result<(), Stop> {
        let Some(user) = settings.as_user().filter(|_| settings.credential.user.is_none()) else {
            let submit = if settings.credential.user.is_some() {
                "signed in as a user"
            } else {
                "submitting needs a user, and none is configured"
            };
            return self.note("rights", Ok(format!("may read customers and qualifications; {submit}")));
        };
        let client = self.client(&user)?;
        let response = match customer {
            Some(id) => match client.qualifications(id).await {
                Ok(_) | Err(Error::NoRelationship(_) | Error::NotFound(_)) => Ok(()),
                Err(error) => Err(error),
            },
            None => client.sign_in().await,
        };
        let text = response.map_err(|error| refused(&error)).map(|()| {
            format!(
                "may read customers and qualifications; a user is signed in{}",
                self.ends(user.credential.expiries())
            )
        });
        self.note("rights", text)
    }

    fn client(&mut self, settings: &PartnerSettings) -> Result<PartnerCenter, Stop> {
        let budget = Arc::new(Budget::per_minute(settings.requests_per_minute));
        match PartnerCenter::new(settings.clone(), budget, self.context.clock.clone()) {
            Ok(client) => Ok(client.with_deadline(STEP_TIMEOUT)),
            Err(error) => {
                Err(self.note("token", Err((Exit::Configuration, error_chain(&error)))).err().unwrap_or(Stop::Step))
            }
        }
    }

    fn token(&self, settings: &PartnerSettings) -> String {
        let who = if settings.credential.user.is_some() { "for a user" } else { "for the application" };
        format!("received {who}{}", self.ends(settings.credential.expiries()))
    }

    /// `; the client secret ends 2027-01-31, in 71 days`
    fn ends(&self, expiries: impl IntoIterator<Item = Expiry>) -> String {
        let now = self.context.now();
        let about = |Expiry { of, at }| {
            let day = at.to_utc().format("%Y-%m-%d");
            let days = at.since(now).as_secs() / 86_400;
            if at <= now { format!("; the {of} ended {day}") } else { format!("; the {of} ends {day}, in {days} days") }
        };
        expiries.into_iter().map(about).collect()
    }

    async fn mail(&mut self, settings: &EmailSettings) -> Result<(), Stop> {
        let channel =
            EmailChannel::new(settings.clone()).with_clock(self.context.clock.clone()).with_deadline(STEP_TIMEOUT);
        let failed = |refusal: ProbeError| {
            let exit = if refusal.at_login { Exit::Configuration } else { Exit::TryAgain };
            (exit, refusal.to_string())
        };
        let expiry = settings.smtp.login.as_ref().and_then(Login::expiry);
        if let Some(LoginBy::Token(application)) = settings.smtp.login.as_ref().map(|login| &login.by)
            && application.proxy.is_some()
        {
            // An HTTP client's errors do not say what is wrong with a proxy.
            self.reach(&application.login_url, application.proxy.as_ref()).await?;
        }
        match channel.probe_token().await {
            Ok(None) => {}
            Ok(Some(text)) => self.note("token", Ok(format!("{text}{}", self.ends(expiry))))?,
            Err(refusal) => self.note("token", Err(failed(refusal)))?,
        }
        let outcome = channel.probe().await.map_err(failed);
        self.note("login", outcome)
    }
}

/// Polls the first customer that still exists.
async fn qualification(client: &PartnerCenter, ids: &[String]) -> Result<String, (Exit, String)> {
    let mut left = None;
    for id in ids {
        match client.qualifications(id).await {
            Ok(answer) => {
                let count = answer.snapshot.entries().len();
                let entries = if count == 1 { "1 qualification".to_owned() } else { format!("{count} qualifications") };
                return Ok(format!("customer {id} has {entries}"));
            }
            Err(error @ (Error::NoRelationship(_) | Error::NotFound(_))) => left = Some(error),
            Err(error) => return Err(refused(&error)),
        }
    }
    match left {
        None => Ok("there is no customer to read yet".to_owned()),
        Some(error) => Err(refused(&error)),
    }
}

/// True if the answer looks like another server's: of no documented shape, or without any of the API's codes.
fn is_not_the_apis(error: &Error) -> bool {
    match error {
        Error::Unreadable { .. } => true,
        Error::NotFound(answer) | Error::Refused(answer) | Error::Credential(answer) | Error::Forbidden(answer) => {
            answer.code().is_none()
        }
        _ => false,
    }
}

fn refused(error: &Error) -> (Exit, String) {
    let rights = matches!(error, Error::Forbidden(_));
    let text = error_chain(error);
    (Exit::from(error), if rights { format!("a permission is missing: {text}") } else { text })
}
