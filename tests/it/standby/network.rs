//! Hosts of their own: network namespaces around one bridge. This process is beside them, at `.1`, with everything that is
//! outside: Partner Center, the mail server and the receiver, which listen on its loopback interface.

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What can be cut off from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    World,
    A,
    B,
    /// etcd.
    Witness,
    /// The server of the replicas.
    Carrier,
}

impl Place {
    const NAMESPACES: [Self; 4] = [Self::A, Self::B, Self::Witness, Self::Carrier];

    fn number(self) -> u8 {
        1 + self as u8
    }
}

pub(super) struct Network {
    /// Of the names: namespaces belong to the machine.
    prefix: String,
    subnet: String,
    relays: Vec<JoinHandle<()>>,
    helpers: Vec<Child>,
}

impl Network {
    /// `Err` says why this machine has none.
    pub(super) fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let id = std::process::id() * 4 + COUNT.fetch_add(1, Ordering::SeqCst);
        let subnet = format!("10.{}.{}", 64 + id % 128, id / 128 % 250);
        let network = Self { prefix: format!("vw{}", id % 100_000), subnet, relays: Vec::new(), helpers: Vec::new() };
        let Self { prefix, subnet, .. } = &network;
        let switch = format!("{prefix}s");
        run("ip", &["netns", "add", &switch])?;
        inside(&switch, &["ip", "link", "add", "br0", "type", "bridge"])?;
        inside(&switch, &["ip", "link", "set", "br0", "up"])?;
        let plug = |name: &str| {
            inside(&switch, &["ip", "link", "set", name, "master", "br0"])?;
            inside(&switch, &["ip", "link", "set", name, "up"])
        };
        let (near, far) = (format!("{prefix}0"), format!("{prefix}9"));
        run("ip", &["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &switch])?;
        run("ip", &["addr", "add", &format!("{subnet}.1/24"), "dev", &near])?;
        run("ip", &["link", "set", &near, "up"])?;
        plug(&far)?;
        for place in Place::NAMESPACES {
            let (name, port) = (network.name(place), format!("{prefix}{}", place.number()));
            run("ip", &["netns", "add", &name])?;
            run("ip", &["-n", &name, "link", "add", "eth0", "type", "veth", "peer", "name", &port, "netns", &switch])?;
            inside(&name, &["ip", "addr", "add", &format!("{}/24", network.address(place)), "dev", "eth0"])?;
            inside(&name, &["ip", "link", "set", "eth0", "up"])?;
            inside(&name, &["ip", "link", "set", "lo", "up"])?;
            inside(
                &name,
                &[
                    "nft",
                    "add table inet cut; add chain inet cut o { type filter hook output priority 0; }; \
                                    add chain inet cut i { type filter hook input priority 0; }",
                ],
            )?;
            plug(&port)?;
        }
        Ok(network)
    }

    fn name(&self, place: Place) -> String {
        format!("{}{}", self.prefix, place.number())
    }

    pub(super) fn address(&self, place: Place) -> String {
        format!("{}.{}", self.subnet, place.number())
    }

    /// A command in a namespace. It is the process itself, not a child of another.
    pub(super) fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(place), program]).stdin(Stdio::null());
        command
    }

    /// Makes a port of this process's loopback interface reachable, and under the same number on the loopback interfaces
    /// of the hosts.
    pub(super) async fn publish(&mut self, port: u16) {
        let listener = TcpListener::bind((self.address(Place::World), port)).await.expect("a free port");
        self.relays.push(tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let to = SocketAddr::from(([127, 0, 0, 1], port));
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                });
            }
        }));
        self.forward(port, Place::World);
    }

    /// Makes a port of a place reachable on the loopback interfaces of the hosts.
    pub(super) fn forward(&mut self, port: u16, to: Place) {
        for host in [Place::A, Place::B] {
            let mut socat = self.command(host, "socat");
            socat.arg(format!("TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr"));
            socat.arg(format!("TCP:{}:{port}", self.address(to)));
            self.helpers.push(socat.stderr(Stdio::null()).spawn().expect("socat"));
        }
    }

    /// Drops every packet between two places, in both directions.
    pub(super) fn cut(&self, one: Place, other: Place) {
        for (here, there) in [(one, other), (other, one)].into_iter().filter(|(here, _)| *here != Place::World) {
            let there = self.address(there);
            let rules = format!("add rule inet cut o ip daddr {there} drop; add rule inet cut i ip saddr {there} drop");
            inside(&self.name(here), &["nft", &rules]).expect("a rule");
        }
    }

    /// Sends a signal to every process in a place.
    pub(super) fn signal(&self, place: Place, signal: &str) {
        let found = Command::new("ip").args(["netns", "pids", &self.name(place)]).output().expect("ip");
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        // One that ended meanwhile is none of ours any more.
        let _ = Command::new("kill").args(["-s", signal]).args(found.split_whitespace()).stderr(Stdio::null()).status();
    }

    pub(super) fn heal(&self) {
        for place in Place::NAMESPACES {
            inside(&self.name(place), &["nft", "flush chain inet cut o; flush chain inet cut i"]).expect("no rule");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for relay in &self.relays {
            relay.abort();
        }
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for place in Place::NAMESPACES {
            let _ = Command::new("ip").args(["netns", "del", &self.name(place)]).output();
        }
        let _ = Command::new("ip").args(["netns", "del", &format!("{}s", self.prefix)]).output();
        // Its other end went with the namespace; deleted here, too, in case that takes its time.
        let _ = Command::new("ip").args(["link", "del", &format!("{}0", self.prefix)]).output();
    }
}

fn inside(namespace: &str, command: &[&str]) -> Result<(), String> {
    run("ip", &[&["netns", "exec", namespace], command].concat())
}

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let done: Output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
}
