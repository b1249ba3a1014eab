//! Logins at mail servers.

use super::*;
use crate::partner_center::Audience;

/// Replaces the example's password.
const OAUTH: &str = "[smtp.office.oauth]\ntenant = 'contoso.onmicrosoft.com'\nclient_id = 'app'\n\
                     client_secret_file = 'client-secret'\n";

#[test]
fn a_mail_server_is_logged_into_with_a_token_of_an_application() {
    let desk = Desk::new();
    let application = |more: &str| {
        let config = desk.with("password_file = \"smtp-password\"", &format!("{OAUTH}{more}")).unwrap();
        assert!(!format!("{config:?}").contains("the-client-secret"));
        let EndpointKind::Email(email) = &config.endpoints[0].kind else { panic!("not a mail endpoint") };
        let login = email.smtp.login.clone().unwrap();
        assert_eq!(login.username, "vetwatch");
        let LoginBy::Token(application) = login.by else { panic!("not a token") };
        application
    };
    let usual = application("client_secret_expires = '2027-01-31'");
    assert_eq!(usual.login_url.as_str(), "https://login.microsoftonline.com/");
    assert_eq!(usual.audience, Audience::Scope("https://outlook.office365.com/.default".into()));
    assert_eq!(usual.proof.expiry().unwrap().at.to_string(), "2027-01-31T00:00:00.000Z");
    let other = application("login_url = 'http://127.0.0.1:8080'\nscope = 'https://outlook.office365.us/.default'");
    assert_eq!(
        (other.login_url.as_str(), other.audience),
        ("http://127.0.0.1:8080/", Audience::Scope("https://outlook.office365.us/.default".into()))
    );
    let proxied = application("proxy_url = 'http://proxy.example:3128'");
    assert_eq!(proxied.proxy.unwrap().to_string(), "http://proxy.example:3128");
    let platform = OAUTH.replace("client_secret_file", "federated_token_file");
    let config = desk.with("password_file = \"smtp-password\"", &platform).unwrap();
    assert!(format!("{config:?}").contains("WorkloadIdentity"));
}

#[test]
fn a_password_for_exchange_online_is_warned_of() {
    let warnings = Desk::new().warnings("smtp.contoso.example", "smtp.office365.com");
    assert_eq!(
        warnings,
        ["smtp.office.password_file: Exchange Online switches passwords off for SMTP; a section oauth \
                           logs in with a token"]
    );
}

#[test]
fn what_is_wrong_with_the_application_of_a_mail_server_is_shown() {
    let desk = Desk::new();
    let problem = |oauth: &str| desk.problem("password_file = \"smtp-password\"", oauth);
    let problems: Vec<String> = [
        OAUTH.replace("tenant = ", "tennant = "),
        OAUTH.replace("client_id = 'app'", ""),
        OAUTH.replace("client_secret_file = 'client-secret'", ""),
        OAUTH.replace("client_secret_file = 'client-secret'", "client_secret = 'hunter2'"),
        format!("{OAUTH}certificate_file = 'certificate'"),
        format!("{OAUTH}login_url = 'http://login.example'"),
        format!("{OAUTH}scope = 'https://outlook.office.com/SMTP.Send'"),
        format!("password_file = 'smtp-password'\n{OAUTH}"),
        String::new(),
    ]
    .iter()
    .map(|oauth| problem(oauth).lines().next().unwrap().to_owned())
    .collect();
    insta::assert_snapshot!(problems.join("\n"), @r#"
    vetwatch.toml: smtp.office.oauth.tennant: unknown key; did you mean tenant?
    vetwatch.toml: smtp.office.oauth.client_id: is missing
    vetwatch.toml: smtp.office.oauth.client_secret_file: is missing (or certificate_file, federated_token_file or managed_identity_client_id): the application signs in with it
    vetwatch.toml: smtp.office.oauth.client_secret: a secret does not belong in this file: put it in a file of its own, and that file's name in client_secret_file
    vetwatch.toml: smtp.office.oauth.certificate_file: stands beside the keys of kind client-secret: delete one of the two
    vetwatch.toml: smtp.office.oauth.login_url: http://login.example/ is not https
    vetwatch.toml: smtp.office.oauth.scope: https://outlook.office.com/SMTP.Send is not the scope of an application, which ends in /.default
    vetwatch.toml: smtp.office.password_file: stands beside the section oauth: delete one of the two
    vetwatch.toml: smtp.office.password_file: is missing: it goes with username (or a section oauth, for a token)
    "#);
    let without_mailbox =
        EXAMPLE.replace("username = \"vetwatch\"", "").replace("password_file = \"smtp-password\"", OAUTH);
    let problems = desk.load(&without_mailbox).unwrap_err().to_string();
    assert!(
        problems.contains("smtp.office.username: is missing: the mailbox that the application sends as"),
        "{problems}"
    );
}

#[test]
fn the_name_in_ehlo_is_a_full_host_name_or_an_address_literal() {
    let desk = Desk::new();
    let key = |hello: &str| format!("host = \"smtp.contoso.example\"\nhello = '{hello}'");
    for (hello, expected) in [
        ("vetwatch.contoso.example", "vetwatch.contoso.example"),
        ("büro.example", "xn--bro-hoa.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ] {
        let config = desk.with("host = \"smtp.contoso.example\"", &key(hello)).unwrap();
        let EndpointKind::Email(email) = &config.endpoints[0].kind else { panic!("not a mail endpoint") };
        assert_eq!(email.smtp.hello.as_deref(), Some(expected));
    }
    for hello in ["vetwatch", "localhost.localdomain", "192.0.2.1", "a b.example", "a.example\\r\\nQUIT"] {
        let problem = desk.problem("host = \"smtp.contoso.example\"", &key(hello));
        assert!(problem.contains("smtp.office.hello: ") && problem.contains("is no full host name"), "{problem}");
    }
    for hello in ["[2001:db8::1]", "[IPv6:192.0.2.1]", "[vetwatch]", "[]"] {
        let problem = desk.problem("host = \"smtp.contoso.example\"", &key(hello));
        assert!(problem.contains("is no address literal such as [192.0.2.1]"), "{problem}");
    }
}

#[test]
fn addresses_of_an_international_domain_are_xn() {
    let desk = Desk::new();
    let to = "to = ['Poststelle <poststelle@schule-köln.example>', 'it@xn--schule-kln-lcb.example']";
    let config = desk.with("to = [\"education-sales@contoso.example\"]", to).unwrap();
    let EndpointKind::Email(email) = &config.endpoints[0].kind else { panic!("not a mail endpoint") };
    assert_eq!(email.to[0].to_string(), "Poststelle <poststelle@xn--schule-kln-lcb.example>");
    // Both spellings are one address.
    let twice = "to = ['a@schule-köln.example', 'A@xn--schule-kln-lcb.example']";
    let problem = desk.problem("to = [\"education-sales@contoso.example\"]", twice);
    assert!(problem.contains("A@xn--schule-kln-lcb.example is named twice"), "{problem}");
    let problem = desk.problem("from = \"vetwatch@contoso.example\"", "from = 'wächter@contoso.example'");
    assert!(problem.contains("from: wächter@contoso.example is not ASCII before the @"), "{problem}");
}
