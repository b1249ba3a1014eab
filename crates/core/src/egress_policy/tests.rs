use super::*;

/// Spellings of addresses that such checks are known to miss, as hosts of a URL.
const HOSTS: &str = include_str!("hosts.txt");

fn literal(host: &str) -> Option<IpAddr> {
    match Url::parse(&format!("https://{host}/")).unwrap_or_else(|error| panic!("{host}: {error}")).host() {
        Some(Host::Ipv4(v4)) => Some(v4.into()),
        Some(Host::Ipv6(v6)) => Some(v6.into()),
        _ => None,
    }
}

#[test]
fn every_form_of_an_address_is_what_it_leads_to() {
    let mut section = "";
    let mut seen = 0;
    for line in
        HOSTS.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
    {
        if let Some(name) =
            line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).filter(|name| !name.contains(':'))
        {
            section = name;
            continue;
        }
        let class = classify(literal(line).unwrap_or_else(|| panic!("{line} is no address")));
        let is = match class {
            Never(_) => "never",
            Inner(_) => "inner",
            Public => "public",
        };
        assert_eq!(is, section, "{line}: {class:?}");
        seen += 1;
    }
    assert!(seen > 100, "{seen}");
}

fn public(and: &[&str]) -> EgressPolicy {
    EgressPolicy::Public { and: and.iter().map(|net| net.parse().unwrap()).collect() }
}

fn permitted(reach: &EgressPolicy, name: &str, found: &[&str]) -> Result<Vec<String>, String> {
    let found = found.iter().map(|address| address.parse().unwrap()).collect();
    reach.permitted(name, found).map(|some| some.iter().map(IpAddr::to_string).collect())
}

#[test]
fn of_what_a_name_has_only_what_may_be_reached_is_left() {
    let mixed = ["127.0.0.1", "8.8.8.8", "::ffff:10.0.0.1", "2606:4700::1111", "64:ff9b::a00:1", "64:ff9b::808:808"];
    let left = permitted(&public(&[]), "crm.example", &mixed).unwrap();
    assert_eq!(left, ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"]);
    let left = permitted(&public(&["10.0.0.0/8"]), "crm.example", &mixed).unwrap();
    assert_eq!(left, ["8.8.8.8", "::ffff:10.0.0.1", "2606:4700::1111", "64:ff9b::a00:1", "64:ff9b::808:808"]);
    assert_eq!(permitted(&EgressPolicy::Chosen, "crm.example", &mixed).unwrap(), mixed);
}

#[test]
fn nothing_opens_what_is_never_reached() {
    let all = public(&["0.0.0.0/0", "::/0"]);
    for address in ["169.254.169.254", "0.0.0.0", "224.0.0.1", "fe80::1", "::", "fd00:ec2::254", "::ffff:169.254.0.1"] {
        for reach in [&all, &EgressPolicy::Chosen, &EgressPolicy::Proxy("crm.example".into())] {
            let error = permitted(reach, "crm.example", &[address]).unwrap_err();
            assert!(error.starts_with(&format!("crm.example is {address}, ")) && error.contains("never"), "{error}");
        }
    }
    for net in ["169.254.0.0/16", "169.254.169.254/32", "fe80::/64", "ff02::/16", "0.0.0.0/32"] {
        assert!(forbidden_reason(net.parse().unwrap()).is_some(), "{net}");
    }
    for net in ["10.0.0.0/8", "0.0.0.0/0", "::/0", "127.0.0.0/8", "fd00::/8"] {
        assert!(forbidden_reason(net.parse().unwrap()).is_none(), "{net}");
    }
}

#[test]
fn why_an_address_is_not_reached_is_said_with_what_would_open_it() {
    let error = permitted(&public(&["10.1.0.0/16"]), "crm.example", &["10.2.0.1", "127.0.0.1"]).unwrap_err();
    let rule = "it is reached only if allow_networks or the URL itself names it";
    assert_eq!(error, format!("crm.example is 10.2.0.1, a private address: {rule}"));
    assert_eq!(permitted(&public(&[]), "crm.example", &[]).unwrap_err(), "crm.example has no address");
}

#[test]
fn localhost_is_this_machine_whatever_a_name_server_says() {
    for name in ["localhost", "crm.localhost", "LOCALHOST", "localhost."] {
        for reach in [public(&["10.0.0.0/8"]), EgressPolicy::Chosen] {
            let left =
                permitted(&reach, name, &["10.0.0.1", "8.8.8.8", "127.0.0.1", "::1", "::ffff:127.0.0.2"]).unwrap();
            assert_eq!(left, ["127.0.0.1", "::1", "::ffff:127.0.0.2"], "{name}");
            let error = permitted(&reach, name, &["8.8.8.8"]).unwrap_err();
            assert_eq!(error, format!("{name} is 8.8.8.8, which is not this machine"));
        }
    }
    for name in ["notlocalhost", "localhost.example", "é-localhost"] {
        assert!(permitted(&public(&[]), name, &["127.0.0.1"]).is_err(), "{name}");
    }
}

#[test]
fn what_a_proxy_looks_up_is_not_looked_up_here() {
    let proxy = EgressPolicy::Proxy("proxy.example".into());
    assert_eq!(permitted(&proxy, "proxy.example", &["10.0.0.1"]).unwrap(), ["10.0.0.1"]);
    assert!(permitted(&proxy, "crm.example", &["8.8.8.8"]).is_err());
}
