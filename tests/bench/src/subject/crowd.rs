//! A mesh of many: 500 namespaces of 100 Services of 20 endpoints each, as a directory of manifests.
//!
//! The endpoints of the first Services are real ones, of those that a node's pods dial; nobody ever dials the others. They are written as YAML, as people
//! and tools write them.

use std::{
    fmt::Write,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use crate::{error::BenchError, lab::backends::Port};

/// A directory of manifests, and what of it is edited.
#[derive(Debug)]
pub(crate) struct Crowd {
    directory: PathBuf,
    size: Size,
    servers: Vec<Ipv4Addr>,
}

/// How many there are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub namespaces: usize,
    pub services_each: usize,
    /// Of all Services, those that somebody dials.
    pub dialled: usize,
}

/// Whose endpoint changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Edited {
    /// Of a Service that somebody dials.
    Dialled,
    /// Of one that nobody has asked for.
    Unasked,
}

impl Crowd {
    /// Writes the manifests. The dialled Services' endpoints are these addresses, of HTTP/1.1.
    pub(crate) fn write(directory: &Path, size: Size, servers: &[Ipv4Addr]) -> Result<Self, BenchError> {
        let crowd = Self { directory: directory.to_owned(), size, servers: servers.to_vec() };
        fs::create_dir_all(directory)
            .map_err(|e| BenchError::io(format!("create {}", directory.display()), e))?;
        for namespace in 0..size.namespaces {
            let mut text =
                format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: n-{namespace}}}\n");
            for number in (0..size.all()).filter(|number| number % size.namespaces == namespace) {
                service(&mut text, namespace, number);
                if !EDITED.iter().any(|edited| crowd.number(*edited) == number) {
                    crowd.slice(&mut text, number, true);
                }
            }
            crowd.put(&format!("n-{namespace:03}.yaml"), &text)?;
        }
        EDITED.iter().try_for_each(|edited| crowd.edit(*edited, true))?;
        Ok(crowd)
    }

    /// Says whether one endpoint is ready.
    pub(crate) fn edit(&self, edited: Edited, is_ready: bool) -> Result<(), BenchError> {
        let number = self.number(edited);
        let mut text = String::new();
        self.slice(&mut text, number, is_ready);
        self.put(&format!("slice-{number}.yaml"), &text)
    }

    /// What clients dial to reach the dialled Services.
    pub(crate) fn dialled(&self) -> impl Iterator<Item = Ipv4Addr> {
        (0..self.size.dialled).map(vip)
    }

    fn number(&self, edited: Edited) -> usize {
        match edited {
            Edited::Dialled => 0,
            Edited::Unasked => self.size.all() - 1,
        }
    }

    fn slice(&self, text: &mut String, number: usize, is_ready: bool) {
        let namespace = number % self.size.namespaces;
        let port = Port::Http.number();
        // Nothing that is written to a string fails.
        let _ = writeln!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s-{number}, namespace: n-{namespace}, labels: {{kubernetes.io/service-name: s-{number}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: {port}}}]\nendpoints:"
        );
        for endpoint in 0..ENDPOINTS {
            let address = match self.servers.get(endpoint).filter(|_| number < self.size.dialled) {
                Some(server) => *server,
                None => nobody(number * ENDPOINTS + endpoint),
            };
            let ready = is_ready || endpoint + 1 < ENDPOINTS;
            let _ = writeln!(text, "- {{addresses: [{address}], conditions: {{ready: {ready}}}}}");
        }
    }

    /// As editors do it: written beside, and moved into place.
    fn put(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let (beside, path) = (self.directory.join(".next"), self.directory.join(name));
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|e| BenchError::io(format!("write {}", path.display()), e))
    }
}

impl Size {
    /// Of the scenario; a hundredth of it where it is only to be shown that everything works.
    pub(crate) fn of(is_quick: bool) -> Self {
        let namespaces = if is_quick { 5 } else { 500 };
        Self { namespaces, services_each: 100, dialled: 200 }
    }

    pub(crate) fn all(self) -> usize {
        self.namespaces * self.services_each
    }
}

fn service(text: &mut String, namespace: usize, number: usize) {
    let (vip, port) = (vip(number), Port::Http.number());
    let _ = writeln!(
        text,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s-{number}, namespace: n-{namespace}}}\n\
         spec: {{clusterIP: {vip}, ports: [{{name: http, port: {port}, appProtocol: http}}]}}"
    );
}

fn vip(number: usize) -> Ipv4Addr {
    spread([10, 112], number)
}

/// An address of nobody here.
fn nobody(number: usize) -> Ipv4Addr {
    spread([172, 16], number)
}

/// One address for each number, none of which ends in 0 or 255.
fn spread([first, second]: [u8; 2], number: usize) -> Ipv4Addr {
    let octet = |number: usize| u8::try_from(number % 250).unwrap_or_default();
    Ipv4Addr::new(
        first,
        second.saturating_add(octet(number / 62_500)),
        octet(number / 250),
        octet(number) + 1,
    )
}

/// Endpoints of each Service.
pub(crate) const ENDPOINTS: usize = 20;
/// Services whose slice is in a file by itself.
const EDITED: [Edited; 2] = [Edited::Dialled, Edited::Unasked];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use config::store::{FileText, Options, Store};

    use super::*;

    #[test]
    fn the_control_plane_takes_all_of_it_without_a_remark_and_an_edit_changes_one_service() {
        let directory = tempfile::tempdir().unwrap();
        let size = Size::of(true);
        let crowd = Crowd::write(directory.path(), size, &[Ipv4Addr::new(10, 77, 0, 200)]).unwrap();
        let read = || -> BTreeMap<PathBuf, FileText> {
            let paths = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
            paths.map(|path| (path.clone(), FileText::from(fs::read(path).unwrap()))).collect()
        };
        let mut store = Store::new(Options::default());
        let outcome = store.apply(&read());
        assert!(outcome.findings.is_empty(), "{:#?}", &outcome.findings[..1]);
        assert_eq!(outcome.mesh.services.len(), 500);
        let endpoints = outcome.mesh.services.values().flat_map(|service| &service.ports);
        assert_eq!(endpoints.map(|port| port.endpoints.len()).sum::<usize>(), 500 * ENDPOINTS);
        for edited in EDITED {
            crowd.edit(edited, false).unwrap();
            assert_eq!(store.apply(&read()).changes.services.len(), 1);
        }
        assert_eq!(crowd.dialled().count(), 200);
    }
}
