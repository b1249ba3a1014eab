//! Who leads: an engine outside of the hosts decides, and this asks it.

mod etcd;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

pub use etcd::{Etcd, EtcdSettings};

/// Why the elector was of no use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// The engine that elects. etcd is the only one so far.
#[derive(Debug, Clone)]
pub enum ElectorSettings {
    Etcd(EtcdSettings),
}

impl std::fmt::Display for ElectorSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Etcd(settings) => settings.fmt(f),
        }
    }
}

/// A connection to the engine.
#[derive(Debug)]
pub enum Elector {
    Etcd(Etcd),
}

/// This host's membership. It ends by itself unless it is renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session(pub(super) String);

/// What the elector says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    pub leader: Option<Leader>,
    /// Where the newest data is.
    pub data: Option<Data>,
    /// The hosts that take part, the leader included.
    pub hosts: Vec<Member>,
}

/// A host that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub host: String,
    pub session: Session,
    pub said: Announcement,
}

/// What a host lets the others know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announcement {
    /// Why it could not take over.
    pub problem: Option<String>,
    /// Digests of its configuration, by the kind of section; empty until it was read.
    pub configuration: BTreeMap<String, String>,
}

impl View {
    /// True if another host took this name after the session had.
    #[must_use]
    pub fn has_namesake(&self, host: &str, session: &Session) -> bool {
        self.hosts.iter().any(|member| member.host == host && member.session != *session)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    pub host: String,
    /// Rises with each election. Nothing else identifies a term.
    pub epoch: u64,
    pub since: Timestamp,
}

/// The replica that the next leader restores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    pub epoch: u64,
    /// Who wrote it.
    pub host: String,
}

impl Elector {
    /// # Errors
    /// If no connection can be set up by these settings. Connects to nobody.
    pub fn new(settings: &ElectorSettings) -> Result<Self, Error> {
        match settings {
            ElectorSettings::Etcd(settings) => Etcd::new(settings).map(Self::Etcd),
        }
    }

    /// Joins for `ttl`, unless it is renewed.
    pub async fn join(&self, host: &str, ttl: Duration, said: &Announcement) -> Result<Session, Error> {
        match self {
            Self::Etcd(etcd) => etcd.join(host, ttl, said).await,
        }
    }

    pub async fn announce(&self, session: &Session, host: &str, said: &Announcement) -> Result<(), Error> {
        match self {
            Self::Etcd(etcd) => etcd.announce(session, host, said).await,
        }
    }

    /// Renews. Returns for how long; `None` if the session has ended.
    pub async fn renew(&self, session: &Session) -> Result<Option<Duration>, Error> {
        match self {
            Self::Etcd(etcd) => etcd.renew(session).await,
        }
    }

    pub async fn look(&self) -> Result<View, Error> {
        match self {
            Self::Etcd(etcd) => etcd.look().await,
        }
    }

    /// Tries to become the leader for as long as the session lasts. Returns the epoch, or `None` if another host leads.
    pub async fn stand(&self, session: &Session, host: &str, now: Timestamp) -> Result<Option<u64>, Error> {
        match self {
            Self::Etcd(etcd) => etcd.stand(session, host, now).await,
        }
    }

    /// Names the leader's replica as the newest data. False if this host is not the leader of this epoch any more.
    pub async fn publish(&self, data: &Data) -> Result<bool, Error> {
        match self {
            Self::Etcd(etcd) => etcd.publish(data).await,
        }
    }

    /// Leaves at once, so that another host need not wait for the session to end.
    pub async fn leave(&self, session: &Session) -> Result<(), Error> {
        match self {
            Self::Etcd(etcd) => etcd.leave(session).await,
        }
    }
}
