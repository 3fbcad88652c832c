//! What a sidecar lets in: whom policy names, nobody in the clear under STRICT, and the kubelet's questions.

use std::net::SocketAddr;

use e2e::{HTTP, Origin, end_of, is_reset, port};
use testkit::{Netns, Outcome, http};

use super::scene::{CAPTURES, Scene};

const CLIENT_ONLY: &str = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {namespace: bank, name: client-only}\n\
    spec: {rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/client]}}]}]}\n";
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {namespace: bank, name: peers}\nspec: {mtls: {mode: STRICT}}\n";

/// Whether a question is answered with 200.
fn is_answered(from: &Netns, to: SocketAddr, path: &str) -> Result<bool, testkit::KitError> {
    from.run(|| e2e::is_answered(to, &format!("GET {path} HTTP/1.1\r\nhost: any")))
}

#[test]
fn another_identity_than_policy_names_is_refused_and_the_named_one_is_let_in() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let ports = [HTTP, port("tcp-raw", 7000)];
        let web = scene.pod("bank", "web", &ports)?;
        let (client, other) = (scene.pod("shop", "client", &[])?, scene.pod("shop", "other", &[])?);
        let _origin = Origin::start(&web, 80)?;
        scene.stage.manifests.write("policy.yaml", CLIENT_ONLY)?;
        let mut there = scene.sidecar(&web, capture, &[])?;
        let _callers = (scene.sidecar(&client, capture, &[])?, scene.sidecar(&other, capture, &[])?);
        assert_eq!(http::get(&client, web.at(80), "any", "/")?.status.as_u16(), 200, "{capture}");
        let end = end_of(&other, web.at(7000));
        assert!(is_reset(&end), "{capture}: {end:?}");
        let line = there.wait_logged(|line| line["reason"] == "no_policy_allows")?;
        assert_eq!(line["src.principal"], "spiffe://cluster.local/ns/shop/sa/other", "{line}");
    }
    Ok(())
}

#[test]
fn under_strict_plaintext_is_refused_and_the_kubelets_questions_are_answered() -> Outcome {
    for capture in CAPTURES {
        let scene = Scene::new()?;
        let web = scene.pod("bank", "web", &[HTTP])?;
        let probe = "    image: none\n    readinessProbe: {httpGet: {path: /healthz, port: http}}\n";
        let text = scene.stage.manifests.read("bank-web-pod.yaml")?;
        scene.stage.manifests.write("bank-web-pod.yaml", &text.replacen("    image: none\n", probe, 1))?;
        scene.stage.manifests.write("policy.yaml", STRICT)?;
        let stranger = scene.stage.node.pod("away", "stranger")?;
        let origin = Origin::start(&web, 80)?;
        // Told, or found, as the way out of the pod leads by the node.
        let told: &[&str] = if capture == "ebpf" { &["--node-ip", "10.77.0.1"] } else { &[] };
        let mut sidecar = scene.sidecar(&web, capture, told)?;
        let (node, away) = (scene.stage.node.netns(), stranger.netns());
        for (who, from, path, expected) in [
            ("the kubelet", node, "/healthz", true),
            ("the node, something else", node, "/", false),
            ("a stranger", away, "/healthz", false),
            ("a stranger, something else", away, "/", false),
        ] {
            assert_eq!(is_answered(from, web.at(80), path)?, expected, "{capture}: {who}");
        }
        assert!(!is_answered(away, web.at_v6(80), "/")?, "{capture}: over IPv6");
        assert_eq!(origin.seen().len(), 1, "{capture}");
        sidecar.wait_logged(|line| line["reason"] == "plaintext_refused")?;
        // How the sidecar is itself is asked at a port that is none of the pod's.
        for to in [web.at(15020), web.at_v6(15020)] {
            assert!(is_answered(node, to, "/readyz")?, "{capture}: {to}");
        }
    }
    Ok(())
}
