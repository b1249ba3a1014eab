//! An etcd that demands a client's certificate and a login.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use secrecy::SecretString;
use vetwatch::standby::elector::{Announcement, Data, Elector, ElectorSettings, EtcdSettings};
use vetwatch::time::{Clock as _, SystemClock};

use crate::peers::Certificates;
use crate::process::{SOON, complaint, eventually};
use crate::world::tls;

const TTL: Duration = Duration::from_secs(15);

struct Etcd {
    process: Child,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(certificates: &Certificates, data: &Path, ports: [u16; 2]) -> Etcd {
    let mut etcd = Command::new("etcd");
    let url = format!("https://127.0.0.1:{}", ports[0]);
    etcd.arg("--data-dir").arg(data).args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
    let peers = format!("http://127.0.0.1:{}", ports[1]);
    etcd.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
    etcd.args(["--initial-cluster", &format!("default={peers}")]);
    etcd.arg("--cert-file").arg(certificates.certificate()).arg("--key-file").arg(certificates.key());
    etcd.arg("--trusted-ca-file").arg(certificates.ca()).arg("--client-cert-auth");
    Etcd { process: etcd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcd") }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_elects_with_a_login_and_a_clients_certificate_also_after_its_restart() {
    let there = Command::new("sh").args(["-c", "command -v etcd && command -v etcdctl"]).output();
    if !there.is_ok_and(|found| found.status.success()) {
        eprintln!("skipped: etcd and etcdctl are not here");
        return;
    }
    tls();
    let (certificates, folder) = (Certificates::new(), tempfile::tempdir().expect("a folder"));
    let (data, ports) = (folder.path().join("etcd"), [free_port(), free_port()]);
    let etcd = start(&certificates, &data, ports);
    let url = format!("https://127.0.0.1:{}", ports[0]);
    let ctl = |arguments: &[&str]| {
        let mut ctl = Command::new("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", &url]).arg("--cacert").arg(certificates.ca());
        ctl.arg("--cert").arg(certificates.client()).arg("--key").arg(certificates.client());
        let done = ctl.args(arguments).output().expect("etcdctl");
        if done.status.success() { Ok(()) } else { Err(complaint(&done)) }
    };
    eventually("etcd is there", SOON, async || ctl(&["get", "nothing"])).await;
    for command in [
        ["user", "add", "root:the-root-of-it"].as_slice(),
        &["user", "add", "vetwatch:its-own-password"],
        &["role", "add", "watchers"],
        &["role", "grant-permission", "watchers", "readwrite", "vetwatch/", "--prefix=true"],
        &["user", "grant-role", "vetwatch", "watchers"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        ctl(command).unwrap_or_else(|why| panic!("{command:?}: {why}"));
    }

    let pem = std::fs::read_to_string(certificates.client()).expect("a certificate");
    let settings = |password: &str, pem: Option<String>| {
        ElectorSettings::Etcd(EtcdSettings {
            urls: vec![url.parse().expect("a URL")],
            login: Some(("vetwatch".to_owned(), SecretString::from(password))),
            ca_file: Some(certificates.ca()),
            client_certificate: pem.map(SecretString::from),
            name: "vetwatch".to_owned(),
        })
    };
    let elector = Elector::new(&settings("its-own-password", Some(pem.clone()))).expect("an elector");
    let session = elector.join("a", TTL, &Announcement::default()).await.expect("a session");
    let epoch = elector.stand(&session, "a", SystemClock.now()).await.expect("an answer").expect("an election");
    assert!(elector.publish(&Data { epoch, host: "a".to_owned() }).await.expect("an answer"));

    // Its tokens are in its memory.
    drop(etcd);
    let _etcd = start(&certificates, &data, ports);
    eventually("the lease is renewed", SOON, async || match elector.renew(&session).await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let view = elector.look().await.expect("an answer");
    assert_eq!(view.leader.map(|leader| (leader.host, leader.epoch)), Some(("a".to_owned(), epoch)));
    assert_eq!(view.hosts.len(), 1, "{:?}", view.hosts);

    let wrong = Elector::new(&settings("another-password", Some(pem))).expect("an elector").look().await;
    let wrong = wrong.expect_err("no login").to_string();
    assert!(wrong.contains("authentication failed") && !wrong.contains("another-password"), "{wrong}");
    let stranger = Elector::new(&settings("its-own-password", None)).expect("an elector").look().await;
    let stranger = stranger.expect_err("no certificate").to_string();
    assert!(stranger.contains("BadCertificate"), "{stranger}");
}
