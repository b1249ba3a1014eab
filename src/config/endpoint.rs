//! `[smtp.NAME]` and `[[endpoint]]`: where messages go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lettre::message::Mailbox;
use url::Url;

use super::section::Section;
use super::values::{self, did_you_mean, quote};
use super::{EndpointKind, EndpointSettings, address, chat, credential, http, template};
use crate::delivery::email::address::{AddressError, is_same, mailbox as mail_address};
use crate::delivery::email::{EmailSettings, Login, LoginBy, SmtpSettings, Tls, is_full_name};
use crate::delivery::route::{ContactPolicy, EndpointProfile, Fallback};
use crate::delivery::webhook::{MAX_EVENTS, MAX_EVENTS_WITH_TEMPLATE, SigningSecret, WebhookSettings};
use crate::partner_center::{Application, Audience};

/// Token source and scope for Exchange Online; other clouds have others.
const LOGIN_URL: &str = "https://login.microsoftonline.com/";
const SCOPE: &str = "https://outlook.office365.com/.default";

/// Keys of one kind alone.
const WEBHOOK_KEYS: [&str; 6] =
    ["secret_file", "template_file", "content_type", "template_secret_file", "authorization_file", "max_events"];
/// The ways to an endpoint over HTTP.
const HTTP_KEYS: [&str; 3] = ["url", "url_file", "allow_networks"];
const EMAIL_KEYS: [&str; 4] = ["smtp", "from", "to", "to_contact"];

const NEW_SECRET: &str = "echo \"whsec_$(openssl rand -base64 32)\"";
const MISSING_SECRET: &str = "is missing: it names the file with the key that signs the messages; \
                              echo \"whsec_$(openssl rand -base64 32)\" prints a new one";

/// Default of `fail_over_after`.
const FAIL_OVER_AFTER: Duration = Duration::from_mins(30);

/// The mail servers by name. `None` if the settings are invalid, which was reported.
#[derive(Debug)]
pub(super) struct Servers {
    by_name: BTreeMap<String, Option<SmtpSettings>>,
    /// Their names are missing, which was reported: an endpoint that names one is not wrong as well.
    unnamed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Endpoints {
    /// All names, including those with invalid settings: references to them are not wrong as well.
    pub(super) names: Vec<String>,
    /// A name is missing or wrong, which was reported: a reference to it is not wrong as well.
    pub(super) is_one_unnamed: bool,
    pub(super) settings: Vec<EndpointSettings>,
    /// The mail server of each mail endpoint: two on the same server fail together.
    pub(super) servers: BTreeMap<String, String>,
    /// What the routes need of each.
    pub(super) profiles: BTreeMap<String, EndpointProfile>,
}

impl Endpoints {
    /// True if only customers' contacts get its mails.
    pub(super) fn takes_contacts_only(&self, name: &str) -> bool {
        self.profiles.get(name).is_some_and(|profile| profile.contact == ContactPolicy::Only)
    }
}

pub(super) fn servers(root: &mut Section<'_>) -> Servers {
    let sections = root.named_sections("smtp");
    let unnamed = sections.is_none();
    let sections = sections.into_iter().flatten();
    Servers { by_name: sections.map(|(name, section)| (name, server(section))).collect(), unnamed }
}

fn server(mut section: Section<'_>) -> Option<SmtpSettings> {
    section.require(&["host"]);
    let host = section.parsed("host", |text| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        let valid = plain || text.parse::<IpAddr>().is_ok();
        if valid {
            Ok(text.to_owned())
        } else {
            Err(format!(
                "{} is not a host name: write the name alone; the port goes in port, the encryption in tls",
                quote(text)
            ))
        }
    });
    let tls = section.choice("tls", &[("starttls", Tls::Starttls), ("implicit", Tls::Implicit), ("none", Tls::None)]);
    let tls = tls.unwrap_or(Tls::Starttls);
    if tls == Tls::None && host.as_deref().is_some_and(|host| !address::is_loopback_host(host)) {
        section.problem("tls", "none is only for a mail server on this machine (localhost, 127.0.0.1, ::1)");
    }
    let usual = match tls {
        Tls::Starttls => 587,
        Tls::Implicit => 465,
        Tls::None => 25,
    };
    let port = section.integer("port", 1..=65535).unwrap_or(usual);
    if (port == 465) != (tls == Tls::Implicit) && matches!(port, 465 | 587) {
        let meant = if port == 465 { "implicit" } else { "starttls" };
        section.warning("port", format!("port {port} usually needs tls = \"{meant}\""));
    }
    let login = login(&mut section);
    let by_password = matches!(&login, Some(Login { by: LoginBy::Password(_), .. }));
    if by_password && host.as_deref().is_some_and(|host| host.to_ascii_lowercase().ends_with(".office365.com")) {
        let text = "Exchange Online switches passwords off for SMTP; a section oauth logs in with a token";
        section.warning("password_file", text);
    }
    let ca_file = http::authorities(&mut section);
    let hello = section.parsed("hello", hello);
    Some(SmtpSettings { host: host?, port, tls, hello, login, ca_file })
}

/// The client's name in EHLO: a full host name, or an address literal.
fn hello(text: &str) -> Result<String, String> {
    let literal = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(literal) = literal {
        let address = literal
            .strip_prefix("IPv6:")
            .map_or_else(|| literal.parse().map(IpAddr::V4).ok(), |address| address.parse().map(IpAddr::V6).ok());
        return address
            .map(|_| text.to_owned())
            .ok_or_else(|| format!("{} is no address literal such as [192.0.2.1] or [IPv6:2001:db8::1]", quote(text)));
    }
    let name = match url::Host::parse(text) {
        Ok(url::Host::Domain(name)) if !text.is_ascii() => name,
        _ => text.to_owned(),
    };
    if is_full_name(&name) {
        return Ok(name);
    }
    Err(format!(
        "{} is no full host name such as vetwatch.contoso.example; many mail servers refuse others",
        quote(text)
    ))
}

/// Reads the login. `None` if there is none, or it is invalid, which was reported.
fn login(section: &mut Section<'_>) -> Option<Login> {
    if section.has("oauth") {
        section.require_or("username", "is missing: the mailbox that the application sends as");
        section.reject("password_file", "stands beside the section oauth: delete one of the two");
        let (username, application) = (section.string("username"), oauth(section.section("oauth")));
        let by = LoginBy::Token(Box::new(application?));
        return Some(Login { username: username?, by });
    }
    match (section.has("username"), section.has("password_file")) {
        (true, false) => {
            section.require_or("password_file", "is missing: it goes with username (or a section oauth, for a token)");
        }
        (false, true) => section.require_or("username", "is missing: it goes with password_file"),
        _ => {}
    }
    let username = section.string("username");
    let password = section.secret("password_file");
    username.zip(password).map(|(username, password)| Login { username, by: LoginBy::Password(password) })
}

/// `[smtp.NAME.oauth]`: the sending application and its token source.
fn oauth(mut section: Section<'_>) -> Option<Application> {
    section.require(&["tenant", "client_id"]);
    let tenant = section.parsed("tenant", values::word);
    let login_given = section.has("login_url");
    let login_url = section.parsed("login_url", address::base);
    let login_url = if login_given { login_url } else { Url::parse(LOGIN_URL).ok() };
    let client_id = values::client_id(&mut section, login_url.as_ref().is_none_or(address::is_loopback));
    let proof = credential::application(&mut section);
    let scope_given = section.has("scope");
    let scope = section.parsed("scope", |text| {
        if text.contains(' ') || !text.ends_with("/.default") {
            return Err(format!("{} is not the scope of an application, which ends in /.default", quote(text)));
        }
        Ok(text.to_owned())
    });
    let scope = if scope_given { scope } else { Some(SCOPE.to_owned()) };
    let proxy = http::proxy_to(&mut section, login_url.as_slice().iter().collect::<Vec<_>>().as_slice());
    let audience = Audience::Scope(scope?);
    Some(Application { login_url: login_url?, tenant: tenant?, client_id: client_id?, audience, proof: proof?, proxy })
}

pub(super) fn read(root: &mut Section<'_>, servers: &Servers) -> Endpoints {
    let mut endpoints = Endpoints::default();
    root.require_or("endpoint", "is missing: add a section [[endpoint]] for each place that messages go to");
    let sections = root.sections("endpoint");
    let all: Vec<String> = sections.iter().filter_map(|section| section.peek("name").map(str::to_owned)).collect();
    for mut section in sections {
        section.require(&["name"]);
        section.require_or("kind", "is missing: email, webhook, teams, slack or ntfy");
        let fallback = fallback(&mut section, &all);
        let name = section.parsed("name", |name| {
            let taken = endpoints.names.iter().any(|known| known == name);
            endpoints.names.push(name.to_owned());
            if taken {
                Err(format!("{} is the name of another endpoint, too", quote(name)))
            } else {
                values::name(name)
            }
        });
        endpoints.is_one_unnamed |= name.is_none();
        let kind = section.string("kind");
        for (of, keys) in [("webhook", &WEBHOOK_KEYS[..]), ("email", &EMAIL_KEYS[..])] {
            // Of an unknown kind it is not known what belongs to it.
            if let Some(kind) = kind.as_deref().filter(|kind| *kind != of && chat::is_kind(kind)) {
                for key in keys {
                    section.reject(key, &format!("belongs to the kind {of}, and this is {kind}"));
                }
            }
        }
        if kind.as_deref() == Some("email") {
            for key in HTTP_KEYS {
                section.reject(key, "belongs to the other kinds, and this is email");
            }
        }
        let kind = match kind.as_deref() {
            Some("email") => email(&mut section, servers, |server| {
                endpoints.servers.extend(name.clone().map(|name| (name, server.to_owned())));
            })
            .map(EndpointKind::Email),
            Some("webhook") => webhook(&mut section).map(EndpointKind::Webhook),
            Some(kind) => chat::read(&mut section, kind).map(EndpointKind::Chat),
            None => {
                section.discard_rest();
                None
            }
        };
        let Some((name, kind)) = name.zip(kind) else { continue };
        let (max_events, people) = kind.reach();
        let contact = match &kind {
            EndpointKind::Email(email) => email.contact,
            EndpointKind::Webhook(_) | EndpointKind::Chat(_) => ContactPolicy::No,
        };
        endpoints.profiles.insert(name.clone(), EndpointProfile { max_events, people, contact, fallback });
        endpoints.settings.push(EndpointSettings { name, kind });
    }
    check_use(root, servers, &endpoints);
    endpoints
}

/// Reports fallbacks without a recipient, contacts beside other recipients, and mail servers that nothing uses.
fn check_use(root: &Section<'_>, servers: &Servers, endpoints: &Endpoints) {
    for (name, profile) in &endpoints.profiles {
        if let Some(fallback) = &profile.fallback
            && endpoints.takes_contacts_only(&fallback.endpoint)
        {
            let text = format!(
                "{} cannot be the fallback of {name}: it has to_contact and no to, so it has no recipient of its own",
                fallback.endpoint
            );
            root.problem("endpoint", text);
        }
        if profile.contact == ContactPolicy::Beside {
            let text = "has both to and to_contact: each customer's mail then has other recipients, so many are never gathered \
                 into one; better a second endpoint with to_contact alone";
            let place = endpoints.names.iter().position(|known| known == name);
            root.warning(&place.map_or_else(|| "endpoint".to_owned(), |n| format!("endpoint[{n}]")), text);
        }
    }
    // A misspelt server is not unused as well.
    if endpoints.servers.values().any(|used| !servers.by_name.contains_key(used)) {
        return;
    }
    for name in servers.by_name.keys().filter(|name| !endpoints.servers.values().any(|used| used == *name)) {
        root.warning(&format!("smtp.{}", quote(name)), "no endpoint uses this mail server");
    }
}

/// Reads the endpoint that also gets what this one has held for too long.
fn fallback(section: &mut Section<'_>, names: &[String]) -> Option<Fallback> {
    let own = section.peek("name").map(str::to_owned);
    if section.has("fail_over_after") {
        section.require_or("fallback", "is missing: it goes with fail_over_after");
    }
    let endpoint = section.parsed("fallback", |name| {
        if own.as_deref() == Some(name) {
            return Err("is this endpoint itself: name another one".to_owned());
        }
        if names.iter().any(|known| known == name) {
            return Ok(name.to_owned());
        }
        let suggestion = did_you_mean(name, names.iter().map(String::as_str));
        Err(format!("there is no endpoint {}{suggestion}", quote(name)))
    });
    let after = section.duration("fail_over_after").unwrap_or(FAIL_OVER_AFTER);
    Some(Fallback { endpoint: endpoint?, after })
}

fn email(section: &mut Section<'_>, servers: &Servers, uses: impl FnOnce(&str)) -> Option<EmailSettings> {
    section.require(&["smtp", "from"]);
    let to_contact = section.boolean("to_contact");
    let contact = match (to_contact, section.has("to")) {
        (true, true) => ContactPolicy::Beside,
        (true, false) => ContactPolicy::Only,
        (false, _) => {
            section.require_or("to", "is missing (or to_contact = true, where each customer's contact is to get it)");
            ContactPolicy::No
        }
    };
    let smtp = section.parsed("smtp", |name| {
        uses(name);
        if servers.unnamed {
            return Ok(&None);
        }
        servers.by_name.get(name).ok_or_else(|| {
            let suggestion = did_you_mean(name, servers.by_name.keys().map(String::as_str));
            format!("there is no [smtp.{}]{suggestion}", quote(name))
        })
    });
    let from = section.parsed("from", mailbox);
    let texts = section.non_empty_strings("to");
    let mut to: Vec<Mailbox> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match mailbox(text) {
            Ok(new) if to.iter().any(|known| is_same(&known.email, &new.email)) => {
                section.problem(&format!("to[{index}]"), format!("{} is named twice", new.email));
            }
            Ok(new) => to.push(new),
            Err(problem) => section.problem(&format!("to[{index}]"), problem),
        }
    }
    Some(EmailSettings { smtp: smtp?.clone()?, from: from?, to, contact })
}

fn mailbox(text: &str) -> Result<Mailbox, String> {
    mail_address(text).map_err(|error| {
        let several = if error == AddressError::Invalid && text.matches('@').count() > 1 {
            ": each address is an entry of its own, as in [\"a@contoso.example\", \"b@contoso.example\"]"
        } else {
            ""
        };
        format!("{} {error}{several}", quote(text))
    })
}

fn webhook(section: &mut Section<'_>) -> Option<WebhookSettings> {
    let custom = section.has("template_file");
    if !custom {
        section.require_or("secret_file", MISSING_SECRET);
    }
    let http = http::read(section);
    if let Some(kind) = http.as_ref().and_then(|http| chat::of_kind(&http.url)).filter(|_| !custom) {
        section.warning(
            "kind",
            format!("the URL is that of a chat, which does not understand signed JSON: write kind = \"{kind}\""),
        );
    }
    let secrets = if custom && !section.has("secret_file") { Some(Vec::new()) } else { secrets(section) };
    let template = template::read(section);
    let authorization = section.secret_in_header("authorization_file");
    let max_events =
        section.integer("max_events", 1..=100).unwrap_or(if custom { MAX_EVENTS_WITH_TEMPLATE } else { MAX_EVENTS });
    Some(WebhookSettings {
        http: http?,
        secrets: secrets?,
        template: template?,
        authorization: authorization?,
        max_events,
    })
}

/// Reads one secret per line, the newest first.
fn secrets(section: &mut Section<'_>) -> Option<Vec<SigningSecret>> {
    let text = section.secret_text("secret_file")?;
    let mut secrets = Vec::new();
    let mut good = true;
    for (index, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        match SigningSecret::parse(line) {
            Ok(secret) => secrets.push(secret),
            Err(error) => {
                let text = format!("line {} of the file {error}; {NEW_SECRET} prints a new one", index + 1);
                section.problem("secret_file", text);
                good = false;
            }
        }
    }
    good.then_some(secrets)
}
