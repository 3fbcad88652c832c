//! One match: what the caller and the connection have to be like.
//!
//! A value that is not understood makes its field one of which nobody can say whether it holds, never one that says less.

use ipnet::IpNet;

use super::{super::address, Bad, fields, unknown};
use crate::{
    discovery::messages::{Block, Match, ServiceAccountMatch, StringMatch, string_match::Type},
    model::{ConnectionMatch, TextMatch},
    name::{Namespace, ServiceAccount},
};

/// The numbers of its fields that are understood; 13 are extensions, which are conditions of somebody's.
const KNOWN: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

/// `None` of one that says nothing.
pub(super) fn lower(message: &Match, bytes: &[u8]) -> Result<Option<ConnectionMatch>, Bad> {
    let fields = fields(bytes)?;
    if fields.is_empty() {
        return Ok(None);
    }
    let mut odd = Odd(unknown::has_others(&fields, &KNOWN));
    let raw = |number| unknown::messages(&fields, number);
    let one = ConnectionMatch {
        namespaces: odd.texts(&message.namespaces, &raw(1)),
        not_namespaces: odd.texts(&message.not_namespaces, &raw(2)),
        principals: odd.texts(&message.principals, &raw(3)),
        not_principals: odd.texts(&message.not_principals, &raw(4)),
        source_ips: odd.blocks(&message.source_ips, &raw(5))?,
        not_source_ips: odd.blocks(&message.not_source_ips, &raw(6))?,
        destination_ips: odd.blocks(&message.destination_ips, &raw(7))?,
        not_destination_ips: odd.blocks(&message.not_destination_ips, &raw(8))?,
        ports: ports(&message.destination_ports)?,
        not_ports: ports(&message.not_destination_ports)?,
        service_accounts: odd.accounts(&message.service_accounts, &raw(11)),
        not_service_accounts: odd.accounts(&message.not_service_accounts, &raw(12)),
        unenforceable: false,
    };
    let one = ConnectionMatch { unenforceable: odd.0, ..one };
    // An empty list of numbers is a field on the wire that says nothing.
    Ok((one != ConnectionMatch::default()).then_some(one))
}

/// Whether anything was met that is not understood.
struct Odd(bool);

impl Odd {
    /// All values of a field, or none where one of them is not understood: what is left would say something else.
    fn all<M, T>(
        &mut self,
        values: &[M],
        raw: &[&[u8]],
        known: &[u32],
        read: impl Fn(&M) -> Option<T>,
    ) -> Vec<T> {
        let is_plain =
            |bytes: &&[u8]| unknown::fields(bytes).is_some_and(|fields| !unknown::has_others(&fields, known));
        let read: Option<Vec<T>> = values.iter().map(read).collect();
        match read.filter(|_| values.len() == raw.len() && raw.iter().all(is_plain)) {
            Some(values) => values,
            None => {
                self.0 = true;
                Vec::new()
            }
        }
    }

    fn texts(&mut self, values: &[StringMatch], raw: &[&[u8]]) -> Vec<TextMatch> {
        self.all(values, raw, &[1, 2, 3, 4], text)
    }

    fn accounts(
        &mut self,
        values: &[ServiceAccountMatch],
        raw: &[&[u8]],
    ) -> Vec<(Namespace, ServiceAccount)> {
        self.all(values, raw, &[1, 2], |one| {
            let namespace = Namespace::try_from(one.namespace.as_str()).ok();
            namespace.zip(ServiceAccount::try_from(one.service_account.as_str()).ok())
        })
    }

    fn blocks(&mut self, values: &[Block], raw: &[&[u8]]) -> Result<Vec<IpNet>, Bad> {
        let nets = values.iter().map(net).collect::<Result<Vec<_>, Bad>>()?;
        Ok(self.all(&nets, raw, &[1, 2], |net| Some(*net)))
    }
}

/// A text that everybody's is like, even that of a caller who has none, is not what anybody means to say; neither is one with
/// `spiffe://`, which nobody's is like.
fn text(one: &StringMatch) -> Option<TextMatch> {
    let plain = |text: &String| (!text.is_empty() && !text.starts_with("spiffe://")).then(|| text.clone());
    match one.r#type.as_ref()? {
        Type::Exact(text) => plain(text).map(TextMatch::Exact),
        Type::Prefix(text) => plain(text).map(TextMatch::Prefix),
        Type::Suffix(text) => plain(text).map(TextMatch::Suffix),
        Type::Presence(_) => Some(TextMatch::Present),
    }
}

fn net(block: &Block) -> Result<IpNet, Bad> {
    let address = address::ip(&block.address)?;
    // A connection's ends are compared as plain IPv4.
    let shorter = if address.is_ipv4() && block.address.len() == 16 { 96 } else { 0 };
    let length = block.length.checked_sub(shorter).and_then(|length| u8::try_from(length).ok());
    let net = length.and_then(|length| IpNet::new(address, length).ok());
    Ok(net.ok_or_else(|| Bad::invalid(format!("{address}/{} is no network", block.length)))?.trunc())
}

fn ports(said: &[u32]) -> Result<Vec<u16>, Bad> {
    said.iter().map(|port| address::port(*port)).collect()
}
