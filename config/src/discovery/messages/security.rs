//! `istio.security`: what may come in to workloads. The tags are the field numbers there.
//!
//! As they are on the wire, unchecked: that a list is empty means something else in each of its places.

use super::Extension;

/// `istio.security.Authorization`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Authorization {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Whom it is about.
    #[prost(enumeration = "Scope", tag = "3")]
    pub scope: i32,
    /// What it does.
    #[prost(enumeration = "Action", tag = "4")]
    pub action: i32,
    /// Any of them.
    #[prost(message, repeated, tag = "5")]
    pub rules: Vec<Rule>,
    /// Only reported, not enforced.
    #[prost(bool, tag = "6")]
    pub dry_run: bool,
    /// What implementations say beside that.
    #[prost(message, repeated, tag = "7")]
    pub extensions: Vec<Extension>,
}

/// `istio.security.Scope`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Scope {
    /// The mesh.
    Global = 0,
    /// The policy's namespace.
    Namespace = 1,
    /// The workloads that name it.
    WorkloadSelector = 2,
}

/// `istio.security.Action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Action {
    /// Lets in.
    Allow = 0,
    /// Keeps out.
    Deny = 1,
}

/// `istio.security.Rule`: all clauses.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rule {
    /// All of them; none is true.
    #[prost(message, repeated, tag = "1")]
    pub clauses: Vec<Clause>,
}

/// `istio.security.Clause`: any match.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Clause {
    /// Any of them; none is true.
    #[prost(message, repeated, tag = "2")]
    pub matches: Vec<Match>,
}

/// `istio.security.Match`: all fields that say something, any value of each.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Match {
    /// Of the caller.
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<StringMatch>,
    /// Not of the caller.
    #[prost(message, repeated, tag = "2")]
    pub not_namespaces: Vec<StringMatch>,
    /// Of the caller.
    #[prost(message, repeated, tag = "3")]
    pub principals: Vec<StringMatch>,
    /// Not of the caller.
    #[prost(message, repeated, tag = "4")]
    pub not_principals: Vec<StringMatch>,
    /// Where it comes from.
    #[prost(message, repeated, tag = "5")]
    pub source_ips: Vec<Block>,
    /// Where it does not.
    #[prost(message, repeated, tag = "6")]
    pub not_source_ips: Vec<Block>,
    /// Where it goes.
    #[prost(message, repeated, tag = "7")]
    pub destination_ips: Vec<Block>,
    /// Where it does not.
    #[prost(message, repeated, tag = "8")]
    pub not_destination_ips: Vec<Block>,
    /// The port it goes to.
    #[prost(uint32, repeated, tag = "9")]
    pub destination_ports: Vec<u32>,
    /// Ports it does not.
    #[prost(uint32, repeated, tag = "10")]
    pub not_destination_ports: Vec<u32>,
    /// Of the caller.
    #[prost(message, repeated, tag = "11")]
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Not of the caller.
    #[prost(message, repeated, tag = "12")]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    /// What implementations say beside that.
    #[prost(message, repeated, tag = "13")]
    pub extensions: Vec<Extension>,
}

/// `istio.security.Address`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Block {
    /// 4 or 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub address: Vec<u8>,
    /// The length of its prefix.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// `istio.security.ServiceAccountMatch`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ServiceAccountMatch {
    /// The namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The account.
    #[prost(string, tag = "2")]
    pub service_account: String,
}

/// `istio.security.StringMatch`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StringMatch {
    /// How.
    #[prost(oneof = "string_match::Type", tags = "1, 2, 3, 4")]
    pub r#type: Option<string_match::Type>,
}

/// Of [`StringMatch`].
pub mod string_match {
    /// What the value has to be.
    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub enum Type {
        /// Equal.
        #[prost(string, tag = "1")]
        Exact(String),
        /// Begins so.
        #[prost(string, tag = "2")]
        Prefix(String),
        /// Ends so.
        #[prost(string, tag = "3")]
        Suffix(String),
        /// Is there.
        #[prost(message, tag = "4")]
        Presence(super::Empty),
    }
}

/// `google.protobuf.Empty`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Empty {}
