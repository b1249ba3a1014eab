use url::Url;

use super::*;

fn at(text: &str) -> Timestamp {
    serde_json::from_value(text.into()).unwrap()
}

#[test]
fn retry_after_is_read_in_both_forms_and_never_believed_beyond_an_hour() {
    let now = at("2026-11-21T09:00:00Z");
    let seconds = |text| retry_after(text, now).map(|wait| wait.as_secs());
    assert_eq!(seconds("120"), Some(120));
    assert_eq!(seconds(" 0 "), Some(0));
    assert_eq!(seconds("Sat, 21 Nov 2026 09:05:00 GMT"), Some(300));
    assert_eq!(seconds("Sat, 21 Nov 2026 08:00:00 GMT"), Some(0));
    assert_eq!(seconds("99999999999999"), Some(3600));
    assert_eq!(seconds("Mon, 01 Jan 2091 00:00:00 GMT"), Some(3600));
    for nonsense in ["", "-5", "soon", "1.5", "999999999999999999999999"] {
        assert_eq!(seconds(nonsense), None, "{nonsense}");
    }
}

#[test]
fn of_a_url_only_scheme_and_host_are_shown() {
    let url = "https://me:s3cr3t-pw@crm.example:8443/hooks/T0KEN-abc/v1?sig=QUERYSECRET%2Bx";
    let poster = Poster::new(HttpSettings::new(url.parse().unwrap()));
    let shown = format!("{poster:?} {:?}", poster.settings);
    assert!(shown.contains("https://crm.example:8443"), "{shown}");
    let echo = format!("{url}: Cannot POST /hooks/T0KEN-abc/v1 (sig=QUERYSECRET+x, T0KEN-abc) as me:s3cr3t-pw");
    let said = poster.reported(Outcome::Refused, &echo).detail;
    for secret in ["T0KEN", "QUERYSECRET", "s3cr3t"] {
        assert!(!shown.contains(secret) && !said.contains(secret), "{shown}\n{said}");
    }
}

#[test]
fn a_secret_is_hidden_in_every_form_in_which_a_server_may_repeat_it() {
    let url: Url = "https://me:s3cr3t%2Bpw@crm.example/T0KEN%2Babc/x?k=QUERY%20SECRET".parse().unwrap();
    let proxy: Url = "http://proxy-user:PR0XY-pw@proxy.example:3128".parse().unwrap();
    let login = "Basic bWU6czNjcjN0K3B3"; // me:s3cr3t+pw
    for echo in [
        "Cannot POST /T0KEN%2Babc/x",
        "no T0KEN+abc here",
        "k is QUERY SECRET (QUERY%20SECRET)",
        "s3cr3t+pw or s3cr3t%2Bpw",
        login,
        "an answer that is cut within T0KEN%2Ba",
        "and within T0KEN+",
        "PR0XY-pw",
    ] {
        let said = redact(echo, [&url, &proxy]);
        for secret in ["T0KEN", "QUERY", "s3cr3t", "bWU6", "PR0XY"] {
            assert!(!said.contains(secret), "{echo}: {said}");
        }
    }
    assert_eq!(redact("nothing to hide, ünless", [&url, &proxy]), "nothing to hide, ünless");
}

#[test]
fn a_heartbeat_goes_wherever_its_url_leads_but_to_what_is_never_reached() {
    for (url, good) in [
        ("https://10.0.0.1/ping", true),
        ("https://checks.example/ping", true),
        ("http://localhost/ping", true),
        ("https://169.254.169.254/ping", false),
        ("http://checks.example/ping", false),
    ] {
        assert_eq!(chosen(&url.parse().unwrap()).is_ok(), good, "{url}");
    }
}
