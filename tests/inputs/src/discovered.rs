//! Any resources of a control plane: no panic, the mesh does not depend on the order in which they came, and what protects is in force
//! in one form or another.
//!
//! Each is told as a byte for its type, its name after its length (one byte), and its body after its length (two bytes). With the bit
//! of 8 in the first byte, the body is what a message of the model's own holds.

use config::{
    discovery::{Assembly, Kind, Resource},
    model::Mesh,
    store::Options,
};

/// What the head of this file says, of these bytes.
///
/// # Panics
/// It does not hold.
pub fn holds(bytes: &[u8]) {
    let mut resources = told(bytes);
    // Of one name, the last counts.
    resources.reverse();
    resources.sort_by(|(kind, one), (other, another)| (kind, &one.name).cmp(&(other, &another.name)));
    resources.dedup_by(|(kind, one), (other, another)| kind == other && one.name == another.name);
    let forth = mesh(resources.iter());
    let back = mesh(resources.iter().rev());
    assert_eq!(forth, back, "the order decides");
    let has = |kind: Kind| resources.iter().any(|(other, _)| *other == kind);
    assert!(
        !has(Kind::PeerAuthentication) || !forth.peer_authentication.is_empty(),
        "a PeerAuthentication vanished"
    );
}

fn mesh<'a>(resources: impl Iterator<Item = &'a (Kind, Resource)>) -> Mesh {
    let domain = "cluster.local".try_into().expect("a domain");
    let mut assembly = Assembly::new(Options::default(), domain);
    for (kind, resource) in resources {
        assembly.take(*kind, vec![resource.clone()], &[]);
    }
    let made = assembly.make();
    Mesh { version: 0, ..Mesh::clone(&made.mesh) }
}

fn told(mut bytes: &[u8]) -> Vec<(Kind, Resource)> {
    let mut resources = Vec::new();
    while let Some(resource) = one(&mut bytes) {
        resources.push(resource);
    }
    resources
}

fn one(bytes: &mut &[u8]) -> Option<(Kind, Resource)> {
    let [kind, length, rest @ ..] = bytes else { return None };
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (body, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *bytes = rest;
    let body = if kind & 8 == 0 { body.to_vec() } else { own(body) };
    let name = String::from_utf8_lossy(name).into_owned();
    let resource = Resource { name, aliases: Vec::new(), version: String::new(), body };
    Some((*Kind::ALL.get(usize::from(kind % 8))?, resource))
}

/// A message whose first field is this text.
fn own(json: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(json);
    let mut message = vec![0x0a];
    let mut length = text.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap_or_default());
    message.extend(text.as_bytes());
    message
}
