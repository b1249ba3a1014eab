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
    vetwatch.toml: smtp.office.oauth.client_secret_file: is missing (or certificate_file, or federated_token_file): the application signs in with it
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
