//! Over TCP and TLS.

use std::{fs, net::SocketAddr};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;

struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self(Issuer::new(params, key), pem)
    }

    /// A certificate and its key, as text.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// A plane that speaks TLS as `control.test`.
struct Secure {
    plane: Plane,
    servers: Authority,
    nodes: Authority,
    files: TlsFiles,
}

impl Secure {
    async fn start(demands: bool) -> Self {
        let (servers, nodes) = (Authority::new(), Authority::new());
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let files = TlsFiles {
            certificate: at("tls.crt"),
            key: at("tls.key"),
            client_roots: demands.then(|| at("nodes.crt")),
        };
        fs::write(at("nodes.crt"), &nodes.1).unwrap();
        put(&files, servers.issue("control.test"));
        let anywhere = [Listen::Tcp("0.0.0.0:0".parse().unwrap())];
        let text = namespace("shop", "one");
        let plane = Plane::start_at(directory, &anywhere, Some(files.clone()), &[("a", &text)]).await;
        Self { plane, servers, nodes, files }
    }

    /// A client that shows this certificate, or none.
    async fn client(&self, own: Option<(String, String)>) -> Result<Client, String> {
        let Listen::Tcp(address) = self.plane.at[0] else { panic!() };
        let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.servers.1.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(crate::identity::provider()));
        let config = config.with_protocol_versions(&[&TLS13]).unwrap().with_root_certificates(roots);
        let mut config = match own {
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                config
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
                    .unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let connect = tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("control.test").unwrap();
                Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, stream).await?))
            }
        });
        let channel = Endpoint::from_static("http://control.test").connect_with_connector(connect).await;
        Client::open(channel.map_err(|error| format!("{error:?}"))?)
            .await
            .map_err(|status| format!("{status:?}"))
    }

    async fn is_served(&self, own: Option<(String, String)>) -> Result<(), String> {
        let mut node = self.client(own).await?;
        node.ask(Kind::Namespace, &[]).await;
        let heard = timeout(SOON, node.hears.message()).await.expect("an answer");
        let heard = heard.map_err(|status| format!("{status:?}"))?.ok_or("an end")?;
        assert_eq!(heard.resources.len(), 1);
        Ok(())
    }
}

fn put(files: &TlsFiles, (certificate, key): (String, String)) {
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
}

#[tokio::test]
async fn who_has_no_certificate_of_the_nodes_roots_is_not_served() {
    let secure = Secure::start(true).await;
    let stranger = Authority::new().issue("node-a");
    secure.is_served(Some(secure.nodes.issue("node-a"))).await.unwrap();
    for own in [None, Some(stranger), Some(secure.servers.issue("node-a"))] {
        assert!(secure.is_served(own).await.is_err());
    }
    let open = Secure::start(false).await;
    open.is_served(None).await.unwrap();
}

#[tokio::test]
async fn a_certificate_does_not_say_which_node_it_is() {
    let mut secure = Secure::start(true).await;
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: cart-1, namespace: shop}\n\
        spec: {nodeName: node-a, containers: [{name: c, livenessProbe: {httpGet: {path: /well, port: 80}}}]}\n\
        status: {podIP: 10.0.0.1}\n";
    secure.plane.write("pod", pod);
    let mut node = secure.client(Some(secure.nodes.issue("node-a"))).await.unwrap();
    let value = protocol::Value { text: Some("node-a".to_owned()) };
    let metadata = protocol::Struct { fields: [("NODE_NAME".to_owned(), value)].into() };
    let claimed = Some(protocol::Node { metadata: Some(metadata), ..protocol::Node::default() });
    node.say(Request { node: claimed, ..of(Kind::Address) }).await;
    let body = node.hear().await.resources[0].resource.clone().unwrap().value;
    assert!(!String::from_utf8_lossy(&body).contains("/well"));
}

#[tokio::test]
async fn a_certificate_is_renewed_while_it_runs_and_a_broken_one_changes_nothing() {
    let mut secure = Secure::start(false).await;
    fs::write(&secure.files.key, "no key").unwrap();
    secure.is_served(None).await.unwrap();
    secure.servers = Authority::new();
    assert!(secure.is_served(None).await.is_err(), "the one before goes on");
    put(&secure.files, secure.servers.issue("control.test"));
    secure.is_served(None).await.unwrap();
}

#[tokio::test]
async fn files_that_hold_no_certificate_are_named_with_their_option() {
    let secure = Secure::start(true).await;
    let wrong = secure.files.certificate.with_file_name("wrong");
    fs::write(&wrong, "nothing").unwrap();
    let nowhere = PathBuf::from("/nowhere/at/all");
    for (files, named, option) in [
        (TlsFiles { certificate: nowhere.clone(), ..secure.files.clone() }, &nowhere, "--certificate"),
        (TlsFiles { certificate: wrong.clone(), ..secure.files.clone() }, &wrong, "--certificate"),
        (TlsFiles { key: wrong.clone(), ..secure.files.clone() }, &wrong, "--key"),
        (TlsFiles { client_roots: Some(wrong.clone()), ..secure.files.clone() }, &wrong, "--client-roots"),
    ] {
        let error = Server::open(&[], Some(Certificates::Files(files)), Arc::clone(&secure.plane.streams))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(option) && error.contains(&named.display().to_string()), "{error}");
    }
}
