//! The sandbox is judged by clients that know nothing of it: Microsoft's sign-in library and a Partner Center client, as
//! their packages are installed.

use std::sync::Arc;

use serde_json::json;
use vetwatch::sandbox::{CustomerDetails, Options, Sandbox, SignIns};
use vetwatch::time::SystemClock;

use crate::peers::{self, Certificates};
use crate::tunnel::{Proxy, tls_in_front_of};

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_own_clients_work_with_the_sandbox_as_they_are() {
    let sandbox = Sandbox::start(Options::default(), Arc::new(SystemClock)).await.expect("a sandbox");
    let school = sandbox.add_customer(CustomerDetails::new("", "Contoso School", "school.example")).unwrap();
    sandbox.add_customer(CustomerDetails::new("", "Contoso City", "city.example")).unwrap();
    sandbox.submit(&school).unwrap();
    sandbox.set_sign_ins(SignIns { public_clients: true, ..SignIns::default() });
    let certificates = Certificates::new();
    let certificate = std::fs::read_to_string(certificates.application()).unwrap();
    assert!(sandbox.register_certificate(&certificate));
    let front = tls_in_front_of(sandbox.address().port(), &certificates).await;
    // Whatever a client names, it gets here: nothing leaves this machine.
    let proxy = Proxy::new("200 Connection established", front).await;
    let Options { tenant, client_id, client_secret, .. } = Options::default();
    let input = json!({
        "tenant": tenant, "client_id": client_id, "client_secret": client_secret, "certificate": certificate,
        "control": sandbox.url().join("control").unwrap(),
    });
    let (home, ca) = (tempfile::tempdir().unwrap(), certificates.ca().display().to_string());
    let environment = [
        ("HTTPS_PROXY", proxy.url("127.0.0.1").to_string()),
        ("REQUESTS_CA_BUNDLE", ca),
        ("HOME", home.path().display().to_string()),
    ];
    let running = tokio::task::spawn_blocking(move || peers::run_in("microsoft_clients.py", &environment, &input));
    let read = running.await.unwrap().unwrap_or_else(|error| panic!("{error}"));
    let user = "admin.agent@contoso.example";
    assert_eq!(
        read,
        json!({
            "secret": [client_id, "app"],
            "certificate": [client_id, "app"],
            "certificate by sha1": [client_id, "app"],
            "device code": [user, ["pwd", "mfa"], user],
            "refresh token": true,
            "authorization code": user,
            "authorization code, again": [54005],
            "customers": ["Contoso City", "Contoso School"],
            "qualifications": {"Contoso City": [], "Contoso School": [["Education", "InReview"]]},
        })
    );
    assert_eq!(sandbox.unknown_requests(), []);
}
