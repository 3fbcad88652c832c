//! A file of cases: each begins with `#case NAME`, goes on with what is expected (`expectation.rs`), and ends with what somebody
//! writes, as it is, but for:
//!
//! - `@{head}` is the beginning of an object of the folder's kind: `apiVersion`, `kind`, and `metadata` of `it` in `shop`;
//! - `@{good}` is the folder's sound object;
//! - `@{xNN}` is a byte;
//! - `@[NUMBER*TEXT]@` is a text so many times over, `%` in it the number of each, `\n` a new line.
//!
//! A line `#file` begins another file of the same case. Whatever cannot be read so is an error, never left out.

use std::sync::Arc;

use config::finding::ObjectRef;

use crate::expectation::{self, Expected};

/// A folder of cases.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    /// The kind, or what else it is about.
    pub folder: Arc<str>,
    /// The kind of `it`.
    pub name: &'static str,
    pub good: Arc<str>,
}

/// What somebody writes, and what is to become of it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub kind: Kind,
    pub name: String,
    /// Where it stands, for people.
    pub place: String,
    pub expected: Vec<Expected>,
    pub files: Vec<Vec<u8>>,
}

impl Kind {
    /// That of a folder. What is no object at all may have been a policy.
    pub(crate) fn new(folder: &str, good: impl Into<Arc<str>>) -> Self {
        let name = config::kinds().find(|kind| *kind == folder).unwrap_or("AuthorizationPolicy");
        Self { folder: Arc::from(folder), name, good: good.into() }
    }

    /// The object that its cases are about.
    pub(crate) fn it(&self) -> ObjectRef {
        let namespace = (!self.is_of_the_cluster()).then_some("shop");
        ObjectRef::new(self.name, namespace, "it")
    }

    pub(crate) fn good_file(&self) -> Vec<Vec<u8>> {
        vec![self.good.as_bytes().to_vec()]
    }

    /// Whether something is to stand in for what may have been one.
    pub(crate) fn protects(&self) -> bool {
        ["AuthorizationPolicy", "PeerAuthentication", "NetworkPolicy", "Tenant"].contains(&self.name)
    }

    fn is_of_the_cluster(&self) -> bool {
        ["Namespace", "Tenant"].contains(&self.name)
    }

    fn head(&self) -> String {
        let version = match self.name {
            "EndpointSlice" => "discovery.k8s.io/v1",
            "HTTPRoute" | "GRPCRoute" | "ReferenceGrant" => "gateway.networking.k8s.io/v1",
            "Tenant" => "canopy.mesh/v1alpha1",
            "AuthorizationPolicy" | "PeerAuthentication" => "security.istio.io/v1",
            "NetworkPolicy" => "networking.k8s.io/v1",
            "ServiceEntry" => "networking.istio.io/v1",
            _ => "v1",
        };
        let namespace = if self.is_of_the_cluster() { "" } else { ", namespace: shop" };
        format!("apiVersion: {version}\nkind: {}\nmetadata: {{name: it{namespace}}}", self.name)
    }
}

impl Case {
    /// Whether it is for stores alone that have the scene in force.
    pub(crate) fn is_an_edit(&self) -> bool {
        self.expected.iter().any(|expected| matches!(expected, Expected::AsAnEdit))
    }
}

/// The cases of a file, or what is wrong with it.
pub(crate) fn read(place: &str, text: &str, kind: &Kind) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    let mut lines = text.split_inclusive('\n').zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        let place = format!("{place}:{number}");
        let error = |why: &str| format!("{place}: {why}");
        let Some(name) = line.strip_prefix("#case") else {
            return Err(error("stands before the first case"));
        };
        let mut own: Vec<&str> = Vec::new();
        while let Some((line, _)) = lines.next_if(|(line, _)| !line.starts_with("#case")) {
            own.push(line);
        }
        let name = name.trim();
        if name.is_empty() {
            return Err(error("the case has no name"));
        }
        cases.push(one(format!("{place} ({name})"), name, &own, kind)?);
    }
    if cases.is_empty() { Err(format!("{place}: has no case")) } else { Ok(cases) }
}

fn one(place: String, name: &str, lines: &[&str], kind: &Kind) -> Result<Case, String> {
    let error = |why: String| format!("{place}: {why}");
    let is_said = |line: &&&str| line.starts_with('#') && !line.starts_with("#file");
    let said: Vec<&str> = lines.iter().take_while(is_said).copied().collect();
    let expected: Vec<Expected> = said
        .iter()
        .map(|line| expectation::read(line.trim_end(), kind))
        .collect::<Result<_, _>>()
        .map_err(error)?;
    expectation::check(&expected, kind).map_err(error)?;
    let mut files = vec![String::new()];
    for line in &lines[said.len()..] {
        match (line.trim_end(), files.last_mut()) {
            ("#file", _) => files.push(String::new()),
            (_, Some(file)) => file.push_str(line),
            (_, None) => {}
        }
    }
    let files: Vec<Vec<u8>> =
        files.iter().map(|file| expand(file, kind)).collect::<Result<_, _>>().map_err(error)?;
    if files.iter().any(Vec::is_empty) {
        return Err(error("has no text".to_owned()));
    }
    Ok(Case { kind: kind.clone(), name: name.to_owned(), place, expected, files })
}

/// A text with what its `@{…}` and `@[…]@` stand for.
fn expand(text: &str, kind: &Kind) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('@') {
        all.extend(before.bytes());
        rest = if let Some(behind) = behind.strip_prefix('{') {
            let (what, behind) = behind.split_once('}').ok_or("a @{ without its }")?;
            all.extend(named(what, kind)?);
            behind
        } else if let Some(behind) = behind.strip_prefix('[') {
            let (what, behind) = behind.split_once("]@").ok_or("a @[ without its ]@")?;
            all.extend(repeated(what)?);
            behind
        } else {
            all.push(b'@');
            behind
        };
    }
    all.extend(rest.bytes());
    Ok(all)
}

fn named(what: &str, kind: &Kind) -> Result<Vec<u8>, String> {
    match (what, what.strip_prefix('x')) {
        ("head", _) => Ok(kind.head().into_bytes()),
        ("good", _) => Ok(kind.good.as_bytes().to_vec()),
        (_, Some(byte)) => {
            let byte = u8::from_str_radix(byte, 16).map_err(|_| format!("@{{{what}}} is no byte"))?;
            Ok(vec![byte])
        }
        _ => Err(format!("@{{{what}}} means nothing")),
    }
}

fn repeated(what: &str) -> Result<Vec<u8>, String> {
    let number =
        |(count, text): (&str, &str)| Some((count.parse::<usize>().ok()?, text.replace("\\n", "\n")));
    let (count, text) =
        what.split_once('*').and_then(number).ok_or_else(|| format!("@[{what}]@ has no number"))?;
    Ok((0..count).flat_map(|number| text.replace('%', &number.to_string()).into_bytes()).collect())
}
