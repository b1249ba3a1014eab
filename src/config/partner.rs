//! `[[partner]]`: the tenants of Partner Center.

use std::path::Path;

use url::Url;

use super::section::Section;
use super::values::{self, name, quote, word};
use super::{address, credential, http};
use crate::partner_center::{Customers, PartnerSettings, RESOURCE, RESOURCE_IN_CHINA, TokenFile};
use crate::qualification;

/// Microsoft's clouds: name, Partner Center, Entra ID, audience of the tokens.
const CLOUDS: &[(&str, (&str, &str, &str))] = &[
    ("commercial", ("https://api.partnercenter.microsoft.com/", "https://login.microsoftonline.com/", RESOURCE)),
    // The US Government cloud uses the commercial Partner Center; only the sign-in differs.
    ("us-government", ("https://api.partnercenter.microsoft.com/", "https://login.microsoftonline.us/", RESOURCE)),
    (
        "china",
        (
            "https://partner.partnercenterapi.microsoftonline.cn/",
            "https://login.partner.microsoftonline.cn/",
            RESOURCE_IN_CHINA,
        ),
    ),
];

/// Default budget.
pub(super) const REQUESTS_PER_MINUTE: u32 = 300;

/// Microsoft's published limit for its customer resource.
const PUBLISHED_REQUESTS_PER_MINUTE: u32 = 500;

#[derive(Debug, Default)]
pub(super) struct Partners {
    /// All names, including those with invalid settings: references to them are not wrong as well.
    pub(super) names: Vec<String>,
    pub(super) settings: Vec<PartnerSettings>,
    /// Only this machine is polled: limits that protect Microsoft do not apply.
    pub(super) loopback: bool,
}

/// Reads the partners. `tokens` is the directory of refresh tokens.
pub(super) fn read(root: &mut Section<'_>, tokens: &Path) -> Partners {
    let mut partners = Partners { loopback: true, ..Partners::default() };
    root.require_or("partner", "is missing: add a section [[partner]] for the Partner Center tenant to watch");
    let sections = root.sections("partner");
    if sections.is_empty() {
        partners.loopback = false;
    }
    for mut section in sections {
        section.require(&["name", "tenant", "client_id"]);
        section.require_or("credential", "is missing: it is the section [partner.credential] below this one");
        let name = section.parsed("name", |text| {
            // Compared like in routes.
            let key = qualification::key(text);
            let taken = partners.names.iter().any(|known| qualification::key(known) == key);
            partners.names.push(text.to_owned());
            let same = "is the name of another partner, too; case and underscores make no difference";
            if taken { Err(format!("{} {same}", quote(text))) } else { name(text) }
        });
        let urls = urls(&mut section);
        partners.loopback &= urls.as_ref().is_some_and(|urls| address::is_loopback(&urls.api));
        partners.settings.extend(settings(section, name, urls, tokens));
    }
    partners
}

fn settings(
    mut section: Section<'_>,
    name: Option<String>,
    urls: Option<Urls>,
    tokens: &Path,
) -> Option<PartnerSettings> {
    let tenant = section.parsed("tenant", word);
    let is_loopback = urls.as_ref().is_none_or(|urls| address::is_loopback(&urls.api));
    if !is_loopback && tenant.as_deref() == Some("contoso.onmicrosoft.com") {
        section.warning("tenant", "is the example's: write your tenant's domain, or its GUID");
    }
    if let Some(tenant) = tenant
        .as_deref()
        .filter(|tenant| !is_loopback && !tenant.contains('.') && uuid::Uuid::try_parse(tenant).is_err())
    {
        let text = format!("{} is neither a GUID nor a domain such as contoso.onmicrosoft.com", quote(tenant));
        section.warning("tenant", text);
    }
    let client_id = values::client_id(&mut section, is_loopback);
    let requests_per_minute = section.integer("requests_per_minute", 1..=1_000_000).unwrap_or(REQUESTS_PER_MINUTE);
    if requests_per_minute > PUBLISHED_REQUESTS_PER_MINUTE && !is_loopback {
        let text = format!(
            "{requests_per_minute} is more than the {PUBLISHED_REQUESTS_PER_MINUTE} that Microsoft allows a tenant"
        );
        section.warning("requests_per_minute", text);
    }
    let max_in_flight = section.integer("max_in_flight", 1..=1000).unwrap_or(8);
    let servers = urls.iter().flat_map(|urls| [&urls.api, &urls.login]).collect::<Vec<_>>();
    let proxy = http::proxy_to(&mut section, &servers);
    let customers = section.choice("customers", &[("synced", Customers::Synced), ("manual", Customers::Manual)]);
    let credential_given = section.has("credential");
    let credential_section = section.section("credential");
    let file = name.as_deref().map(|name| TokenFile::new(tokens, name));
    let credential = if credential_given { credential::read(credential_section, file.clone()) } else { None };
    let user_given = section.has("user_credential");
    let user_section = section.section("user_credential");
    let user_credential = if user_given {
        if credential.as_ref().is_some_and(|credential| credential.user.is_some()) {
            section.warning("user_credential", "is not needed: [partner.credential] is a user's already");
        }
        Some(credential::read_user(user_section, file, credential.as_ref()))
    } else {
        None
    };
    let Urls { api: api_url, login: login_url, resource } = urls?;
    Some(PartnerSettings {
        name: name?,
        tenant: tenant?,
        client_id: client_id?,
        api_url,
        login_url,
        resource,
        proxy,
        credential: credential?,
        user_credential: user_credential.map_or(Some(None), |given| given.map(Some))?,
        requests_per_minute,
        max_in_flight,
        customers: customers.unwrap_or(Customers::Synced),
    })
}

struct Urls {
    api: Url,
    login: Url,
    resource: &'static str,
}

/// Reads the URLs, by default those of the cloud. A secret must not travel to the other cloud because one of two keys
/// was forgotten: without `cloud` both are required.
fn urls(section: &mut Section<'_>) -> Option<Urls> {
    let (api_given, login_given, cloud_given) =
        (section.has("api_url"), section.has("login_url"), section.has("cloud"));
    if api_given && !cloud_given {
        section.require_or("login_url", "is missing: it goes with api_url");
    } else if login_given && !cloud_given {
        section.require_or("api_url", "is missing: it goes with login_url");
    }
    let cloud = section.choice("cloud", CLOUDS);
    let cloud = if cloud_given { cloud } else { CLOUDS.first().map(|(_, urls)| *urls) };
    let api = section.parsed("api_url", address::base);
    let api = if api_given { api } else { cloud.and_then(|(api, _, _)| Url::parse(api).ok()) };
    let login = section.parsed("login_url", address::base);
    let login = if login_given { login } else { cloud.and_then(|(_, login, _)| Url::parse(login).ok()) };
    let (api, login) = (api?, login?);
    // Explicit URLs do not name the cloud; China's is known by its host.
    let chinas = RESOURCE_IN_CHINA.strip_prefix("https://");
    let resource = match cloud {
        Some((_, _, resource)) if cloud_given => resource,
        _ if api.host_str() == chinas => RESOURCE_IN_CHINA,
        _ => RESOURCE,
    };
    Some(Urls { api, login, resource })
}
