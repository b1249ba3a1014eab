//! Addresses that vetwatch never connects to.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use url::{Host, Url};
use vetwatch::delivery::http::{HttpSettings, Lookup};
use vetwatch::delivery::webhook::WebhookChannel;
use vetwatch::delivery::{AttemptResult, Outcome};
use vetwatch::sandbox::webhook_receiver::Receiver;
use vetwatch::time::SystemClock;

use super::{by, deliver};

/// Every form that a guard is known to miss; `src/delivery/address/tests.rs` explains each.
const HOSTS: &str = include_str!("../../../crates/core/src/egress_policy/hosts.txt");

/// The hosts under a heading.
fn hosts(heading: &str) -> Vec<&'static str> {
    let (_, rest) = HOSTS.split_once(&format!("\n[{heading}]\n")).unwrap();
    let lines = rest.lines().map(|line| line.split('#').next().unwrap().trim());
    let lines = lines.take_while(|line| !matches!(*line, "[inner]" | "[public]"));
    lines.filter(|line| !line.is_empty()).collect()
}

fn address(host: &str) -> IpAddr {
    match Url::parse(&format!("https://{host}/")).unwrap().host() {
        Some(Host::Ipv4(v4)) => v4.into(),
        Some(Host::Ipv6(v6)) => v6.into(),
        other => panic!("{host}: {other:?}"),
    }
}

/// One port on several addresses of this machine; connections are counted and closed.
struct Trap {
    port: u16,
    counts: Vec<Arc<AtomicUsize>>,
}

impl Trap {
    /// Listens on the receiver's port, so that both have the same URL.
    async fn beside(receiver: &Receiver, addresses: &[&str]) -> Self {
        let port = receiver.address().port();
        let mut counts = Vec::new();
        for address in addresses {
            let count = Arc::<AtomicUsize>::default();
            counts.push(Arc::clone(&count));
            // Without IPv6 on this machine, nothing can be reached over it.
            let Ok(listener) = TcpListener::bind((*address, port)).await else { continue };
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self { port, counts }
    }

    fn connections(&self) -> Vec<usize> {
        self.counts.iter().map(|count| count.load(Ordering::SeqCst)).collect()
    }
}

/// Returns these answers in turn, the last one forever, and counts the queries.
fn answers(answers: &[&[IpAddr]]) -> (Lookup, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let left: Mutex<VecDeque<Vec<IpAddr>>> = Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect());
    let count = Arc::clone(&asked);
    let lookup = move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        let mut left = left.lock().unwrap();
        let answer = if left.len() > 1 { left.pop_front() } else { left.front().cloned() };
        Box::pin(async move { Ok(answer.unwrap()) }) as _
    };
    (Arc::new(lookup), asked)
}

fn named(name: &str, trap: &Trap, allow: &[&str]) -> WebhookChannel {
    let mut settings = HttpSettings::new(format!("https://{name}:{}/hooks/T0KEN-abc", trap.port).parse().unwrap());
    settings.allow_networks = allow.iter().map(|net| net.parse().unwrap()).collect();
    by(settings)
}

async fn receiver() -> Receiver {
    Receiver::start(None, Arc::new(SystemClock)).await.unwrap()
}

fn refused(report: &AttemptResult, words: &str) {
    assert_eq!(report.outcome, Outcome::Unavailable, "{}", report.detail);
    assert!(report.detail.contains(words), "{}", report.detail);
}

#[tokio::test]
async fn no_name_leads_to_an_address_that_is_not_everybodys() {
    let receiver = receiver().await;
    let trap = Trap::beside(&receiver, &["::1", "127.0.0.2"]).await;
    let forbidden: Vec<IpAddr> = [hosts("never"), hosts("inner")].concat().into_iter().map(address).collect();
    assert!(forbidden.len() > 100 && forbidden.contains(&Ipv4Addr::LOCALHOST.into()));
    let each: Vec<&[IpAddr]> = forbidden.iter().map(std::slice::from_ref).collect();
    let (lookup, asked) = answers(&each);
    let channel = named("crm.example", &trap, &[]).with_lookup(lookup);
    for address in &forbidden {
        refused(&deliver(&channel).await, "crm.example is ");
        assert_eq!((receiver.connections(), trap.connections()), (0, vec![0, 0]), "{address}");
    }
    assert!(asked.load(Ordering::SeqCst) > 100);

    // All at once make no difference; allowing one shows that the trap works.
    let (lookup, _) = answers(&[&forbidden]);
    refused(&deliver(&named("crm.example", &trap, &[]).with_lookup(lookup.clone())).await, "crm.example is ");
    assert_eq!((receiver.connections(), trap.connections()), (0, vec![0, 0]));
    deliver(&named("crm.example", &trap, &["127.0.0.1/32"]).with_lookup(lookup)).await;
    assert!(receiver.connections() > 0, "127.0.0.1 is allowed");
    assert_eq!(trap.connections(), [0, 0], "nothing else is");
}

#[tokio::test]
async fn no_url_leads_to_what_is_never_reached_however_it_is_spelled() {
    let receiver = receiver().await;
    let trap = Trap::beside(&receiver, &["::1"]).await;
    for host in hosts("never") {
        for scheme in ["https", "http"] {
            let mut settings = HttpSettings::new(format!("{scheme}://{host}:{}/T0KEN-abc", trap.port).parse().unwrap());
            settings.allow_networks = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
            let words = if scheme == "https" { "vetwatch never talks to" } else { "is not https" };
            refused(&deliver(&by(settings)).await, words);
        }
        assert_eq!((receiver.connections(), trap.connections()), (0, vec![0]), "{host}");
    }
    // Addresses in the URL itself. Of the unusual forms, only those of this machine can be tested here.
    for host in ["127.0.0.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "localhost"] {
        let before = receiver.connections();
        let url = format!("http://{host}:{}/hook", trap.port);
        assert_eq!(deliver(&by(HttpSettings::new(url.parse().unwrap()))).await.outcome, Outcome::Accepted, "{host}");
        assert_eq!(receiver.connections(), before + 1, "{host}");
    }
}

#[tokio::test]
async fn a_name_whose_address_changes_is_checked_each_time_it_is_looked_up() {
    let receiver = receiver().await;
    let trap = Trap::beside(&receiver, &["127.0.0.2"]).await;
    let (good, bad): (IpAddr, IpAddr) = ("127.0.0.2".parse().unwrap(), Ipv4Addr::LOCALHOST.into());
    let (lookup, asked) = answers(&[&[good], &[bad]]);
    let channel = named("crm.example", &trap, &["127.0.0.2/32"]).with_lookup(lookup);
    // The connection uses the checked address: no second query whose answer would be unchecked.
    deliver(&channel).await;
    assert_eq!((trap.connections(), asked.load(Ordering::SeqCst)), (vec![1], 1));
    for _ in 0..3 {
        refused(&deliver(&channel).await, "crm.example is 127.0.0.1, a loopback address");
    }
    assert_eq!((receiver.connections(), trap.connections()), (0, vec![1]));
}

#[tokio::test]
async fn localhost_is_this_machine_whatever_a_name_server_says() {
    let receiver = receiver().await;
    let trap = Trap::beside(&receiver, &["127.0.0.2"]).await;
    let (lookup, _) = answers(&[&["192.0.2.1".parse().unwrap()], &["127.0.0.2".parse().unwrap()]]);
    let url = format!("http://localhost:{}/hook", trap.port);
    let channel = by(HttpSettings::new(url.parse().unwrap())).with_lookup(lookup);
    refused(&deliver(&channel).await, "localhost is 192.0.2.1, which is not this machine");
    deliver(&channel).await;
    assert_eq!((receiver.connections(), trap.connections()), (0, vec![1]));
}
